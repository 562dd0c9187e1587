//! Verdicts on Envoy's worker threads: the turns of their loops, and their time on a core. Does not know what for.

use super::{Comparison, range};
use crate::facts::ContextSwitches;

impl Comparison<'_> {
    pub(super) fn event_loop(&mut self) {
        let (turns, requests) =
            (self.sum_over_workers("turns"), self.facts.envoy_counters.downstream_requests);
        self.recorder.claim(
            "loop-iterations",
            "A request takes at least one turn of a worker's loop",
            format!("at least {requests}, the requests by Envoy"),
            format!("{turns} turns by the kernel"),
            u64::try_from(turns).is_ok_and(|turns| turns >= requests) && requests > 0,
        );
        let (id, claim) = ("loop-iterations-envoy", "Envoy timed as many turns as the kernel saw");
        match self.facts.loop_iterations {
            Some((least, most)) => self.recorder.claim(
                id,
                claim,
                format!("{} by Envoy", range(least, most)),
                format!("{turns} by the kernel"),
                u64::try_from(turns).is_ok_and(|turns| (least..=most).contains(&turns)),
            ),
            None => {
                let why = "this Envoy does not time them: its bootstrap lacks enable_dispatcher_stats";
                self.recorder.not_checked(id, claim, "turns by Envoy", why);
            }
        }
        self.histogram("busy_us", "busy between two waits");
        self.histogram("asleep_us", "asleep in a wait");
    }

    pub(super) fn sched(&mut self) {
        let sum = |switches: &ContextSwitches| -> (u64, u64) {
            let each = self.facts.workers.keys().filter_map(|tid| switches.get(tid));
            each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
        };
        // /proc and bpftrace cannot be read in the same instant. So no margin is guessed: two readings of /proc lie
        // within the time that it watches, two around it, and what it counted is between.
        let (least, most) = (sum(&self.facts.context_switches), sum(&self.facts.context_switches_outer));
        for (id, map, what, least, most) in [
            ("sched-voluntary", "slept", "gave up the core by themselves", least.0, most.0),
            ("sched-involuntary", "preempted", "had it taken away", least.1, most.1),
        ] {
            let seen = self.sum_over_workers(map);
            self.recorder.claim(
                id,
                &format!("How often workers {what}"),
                format!("{least} to {most}, by /proc/PID/task while and around"),
                format!("{seen} by the kernel"),
                u64::try_from(seen).is_ok_and(|seen| (least..=most).contains(&seen)),
            );
        }
        self.histogram("delay_us", "from woken to running");
    }
}
