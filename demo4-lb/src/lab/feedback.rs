//! Exercise 5: a rule that turns load reports into weights, so that no region gets more than it can take.
//!
//! ```text
//!   calls of a round ──> Envoy ──> regions          a round stands for a second: so many calls are so many a second
//!                          │  ^
//!     what it counted ─────┘  └── weights (RDS) <── the student's rule
//! ```
//!
//! Rounds, and not seconds: a machine that is busy with other things makes a round longer, and changes nothing else.

use mesh_lab::Program;
use mesh_lab::{CheckContext, Question, Requirement};
use mesh_lab_xds::XdsEnvoy;
use shared::stats;

use super::world::{backends, caller, require_answers};
use crate::backend::Backend;
use crate::caller::{Call, Caller};
use crate::topology::{CLUSTER, DataPlane, Region, Split, World};

const HARNESS: &str = include_str!("feedback/harness.rs");

const FILE: &str = "rule.rs";

/// Rounds of a phase. The first one is before the rule could see the new demand, and is not judged.
const ROUNDS: usize = 4;

/// The sum of the weights at the beginning.
const WHOLE: u32 = 1000;

/// A region as the check knows it.
struct Site {
    name: String,
    limit: u32,
    weight: u32,
    backends: Vec<Backend>,
}

/// What came of the rounds of one phase that are judged.
#[derive(Default)]
struct Phase {
    demand: u32,
    /// Calls of each region, by round.
    rounds: Vec<Vec<u64>>,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let mut sites = sites(bench).await?;
    let program = bench.compile(FILE, HARNESS).await?;
    // Ask once before anything is started: a rule that cannot answer needs no Envoy.
    ask(bench, &program, &sites, &[0; 3]).await?;
    let mesh = XdsEnvoy::start(bench).await?;
    show(bench, &mesh, &sites).await?;
    let client = caller(&mesh).await?;

    let (quiet, busy) = demands(bench, &sites);
    let mut calls = Vec::new();
    let mut phases = Vec::new();
    for demand in [quiet, busy, quiet] {
        let mut phase = Phase { demand, ..Phase::default() };
        for round in 0..ROUNDS {
            let counted = play(&mesh, &client, &sites, demand, &mut calls).await?;
            let weights = ask(bench, &program, &sites, &counted).await?;
            if round > 0 {
                phase.rounds.push(counted);
            }
            for (site, weight) in sites.iter_mut().zip(weights) {
                site.weight = weight;
            }
            show(bench, &mesh, &sites).await?;
        }
        phases.push(phase);
    }
    require_answers(bench, "every call is answered", &calls, "Do the weights add up to something?");
    judge(bench, &sites, &phases);
    Ok(())
}

/// Three regions, nearest first: two with limits that are soon reached, and a large one far away.
async fn sites(bench: &mut CheckContext) -> anyhow::Result<Vec<Site>> {
    let limits = [bench.rng.number(100..=140), bench.rng.number(70..=90), 1000];
    let mut sites = Vec::new();
    for (name, limit) in bench.rng.names(3).into_iter().zip(limits) {
        let backends = backends(&name, 1, &bench.life).await?;
        sites.push(Site { name, limit, weight: 0, backends });
    }
    sites[0].weight = WHOLE;
    Ok(sites)
}

/// What the nearest region can take alone, and what is too much for the first two together.
fn demands(bench: &mut CheckContext, sites: &[Site]) -> (u32, u32) {
    let (first, second) = (sites[0].limit, sites[1].limit);
    (first * bench.rng.number(55..=75) / 100, first + second + bench.rng.number(60..=100))
}

/// The rule's weights for what was counted.
async fn ask(
    bench: &mut CheckContext,
    program: &Program,
    sites: &[Site],
    counted: &[u64],
) -> anyhow::Result<Vec<u32>> {
    let told = sites.iter().zip(counted);
    let line =
        told.clone().map(|(site, load)| format!("{},{load},{},{}", site.name, site.limit, site.weight));
    let shown = told.map(|(site, load)| format!("{} with load {load} of {}", site.name, site.limit));
    let shown = format!("the weights of [{}]", shown.collect::<Vec<_>>().join(", "));
    let question = Question { line: line.collect::<Vec<_>>().join(";"), description: shown.clone() };
    let answer = bench.ask(program, &[question]).await?.remove(0);
    let weights: Vec<u32> = answer.split(',').filter_map(|weight| weight.parse().ok()).collect();
    if weights.len() != sites.len() {
        let what = "a weight for each region";
        let seen = format!("asked for {shown}, it returned {} weights", weights.len());
        return Err(
            Requirement::unmet(what, format!("{} weights", sites.len()), seen, "In their order.").into()
        );
    }
    Ok(weights)
}

async fn show(bench: &mut CheckContext, mesh: &XdsEnvoy, sites: &[Site]) -> anyhow::Result<()> {
    let region =
        |site: &Site| Region::new(&site.name, site.weight, site.backends.iter().map(Backend::address));
    let world = World { split: Split::Routes, ..World::of(XdsEnvoy::ANYWHERE, sites.iter().map(region)) };
    if let Err(refusal) = mesh.publish(world.snapshot(DataPlane::Envoy)?).await {
        let weights: Vec<_> = sites.iter().map(|site| site.weight.to_string()).collect();
        let seen = format!("weights {}: {refusal}", weights.join(", "));
        let advice = "Somebody has to get the calls: not all weights can be 0, whatever the load is.";
        bench.require("Envoy accepts the weights", "an ACK", &seen, false, advice);
        return Err(Requirement::unmet("the rounds go on", "weights that Envoy accepts", seen, advice).into());
    }
    Ok(())
}

/// One round: so many calls, and how many of them Envoy itself says it sent to each region.
async fn play(
    mesh: &XdsEnvoy,
    caller: &Caller,
    sites: &[Site],
    demand: u32,
    calls: &mut Vec<Call>,
) -> anyhow::Result<Vec<u64>> {
    // Envoy's worker takes new weights up between two calls: after one more call it surely has.
    calls.push(caller.call().await);
    let before = counted(mesh, sites).await?;
    calls.extend(caller.calls(demand as usize, 8).await);
    let after = counted(mesh, sites).await?;
    Ok(after.iter().zip(before).map(|(after, before)| after - before).collect())
}

async fn counted(mesh: &XdsEnvoy, sites: &[Site]) -> anyhow::Result<Vec<u64>> {
    let stats = mesh.envoy.admin().stats(&format!("^cluster\\.{CLUSTER}-.*\\.upstream_rq_total$")).await?;
    let of = |site: &Site| {
        let name = format!("cluster.{CLUSTER}-{}.upstream_rq_total", site.name);
        stats.get(&name).copied().unwrap_or(0)
    };
    Ok(sites.iter().map(of).collect())
}

fn judge(bench: &mut CheckContext, sites: &[Site], phases: &[Phase]) {
    let [quiet, busy, again] = phases else { return };
    let near = &sites[0];
    for (phase, when) in [(quiet, "while there is little to do"), (again, "when it is quiet again")] {
        let got: u64 = phase.rounds.iter().map(|round| round[0]).sum();
        let of = u64::from(phase.demand) * phase.rounds.len() as u64;
        let advice = if phase.demand == quiet.demand && when.starts_with("while") {
            "The limit is a limit and no share: what is below it stays near."
        } else {
            "What was taken from the nearest region has to come back: reckon with what there is to do now (the sum \
             of the loads), and not with what one region got."
        };
        bench.require(
            format!("the nearest region gets the calls {when}"),
            format!("at least 80 %, since {} is below the limit of {}", phase.demand, near.limit),
            format!("{:.0} % of {of} calls went to {} {when}", 100.0 * got as f64 / of as f64, near.name),
            got * 10 >= of * 8,
            advice,
        );
        if when.starts_with("while") {
            busy_judged(bench, sites, busy);
        }
    }
}

/// No region over its limit in any round, and the nearest one not left empty.
fn busy_judged(bench: &mut CheckContext, sites: &[Site], busy: &Phase) {
    let near = |round: &Vec<u64>| round[0];
    let swings = busy.rounds.iter().map(near).min() < Some(u64::from(sites[0].limit) / 4)
        && busy.rounds.iter().map(near).max() > Some(u64::from(sites[0].limit));
    let advice = [
        if swings {
            "It swings: a region that was just emptied looks as if it had room for everything. Give it what fits, and \
             not all or nothing."
        } else {
            "Weights are parts of what there is to do now (the sum of the loads): a limit is limit / sum of it."
        },
        "What the nearest region cannot take goes to the next one, which has a limit too.",
        "",
    ];
    for (at, site) in sites.iter().enumerate().take(2) {
        let most = busy.rounds.iter().map(|round| round[at]).max().unwrap_or(0);
        let share = f64::from(site.limit) / f64::from(busy.demand);
        let allowed = *stats::acceptance_interval(u64::from(busy.demand), share).end();
        bench.require(
            format!("{} stays below its limit when there is much to do", site.name),
            format!("at most {} ({allowed} with what chance may add)", site.limit),
            format!("{} got {most} of {} calls in its fullest second", site.name, busy.demand),
            most <= allowed,
            advice[at],
        );
    }
    let rounds: Vec<u64> = busy.rounds.iter().map(near).collect();
    let mean = rounds.iter().sum::<u64>() / rounds.len().max(1) as u64;
    bench.require(
        format!("{} is used when there is much to do", sites[0].name),
        format!("60 % of its limit of {} or more", sites[0].limit),
        format!("{} got {mean} calls a second", sites[0].name),
        mean * 10 >= u64::from(sites[0].limit) * 6,
        "A limit is there to be used: the nearest region gets as much as it can take.",
    );
}
