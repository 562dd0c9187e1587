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

use super::environment::{connect, require_no_failures, start_backends};
use crate::backend::Backend;
use crate::caller::{Call, Caller};
use crate::topology::{CLUSTER, DataPlane, DesiredState, Region, Split};

const HARNESS: &str = include_str!("feedback/harness.rs");

const FILE: &str = "rule.rs";

/// Rounds of a phase. The first one is before the rule could see the new demand, and is not judged.
const ROUNDS: usize = 4;

/// The sum of the weights at the beginning.
const TOTAL_WEIGHT: u32 = 1000;

/// A region as the check knows it.
struct RegionState {
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

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let mut regions = regions(context).await?;
    let program = context.compile(FILE, HARNESS).await?;
    // Ask once before anything is started: a rule that cannot answer needs no Envoy.
    ask_weights(context, &program, &regions, &[0; 3]).await?;
    let mesh = XdsEnvoy::start(context).await?;
    publish_weights(context, &mesh, &regions).await?;
    let client = connect(&mesh).await?;

    let (quiet, busy) = demands(context, &regions);
    let mut calls = Vec::new();
    let mut phases = Vec::new();
    for demand in [quiet, busy, quiet] {
        let mut phase = Phase { demand, ..Phase::default() };
        for round in 0..ROUNDS {
            let request_counts = run_round(&mesh, &client, &regions, demand, &mut calls).await?;
            let weights = ask_weights(context, &program, &regions, &request_counts).await?;
            if round > 0 {
                phase.rounds.push(request_counts);
            }
            for (region, weight) in regions.iter_mut().zip(weights) {
                region.weight = weight;
            }
            publish_weights(context, &mesh, &regions).await?;
        }
        phases.push(phase);
    }
    require_no_failures(context, "every call is answered", &calls, "Do the weights add up to something?");
    check_phases(context, &regions, &phases);
    Ok(())
}

/// Three regions, nearest first: two with limits that are soon reached, and a large one far away.
async fn regions(context: &mut CheckContext) -> anyhow::Result<Vec<RegionState>> {
    let limits = [context.rng.number(100..=140), context.rng.number(70..=90), 1000];
    let mut regions = Vec::new();
    for (name, limit) in context.rng.names(3).into_iter().zip(limits) {
        let backends = start_backends(&name, 1, &context.life).await?;
        regions.push(RegionState { name, limit, weight: 0, backends });
    }
    regions[0].weight = TOTAL_WEIGHT;
    Ok(regions)
}

/// What the nearest region can take alone, and what is too much for the first two together.
fn demands(context: &mut CheckContext, regions: &[RegionState]) -> (u32, u32) {
    let (first, second) = (regions[0].limit, regions[1].limit);
    (first * context.rng.number(55..=75) / 100, first + second + context.rng.number(60..=100))
}

/// The rule's weights for what was counted.
async fn ask_weights(
    context: &mut CheckContext,
    program: &Program,
    regions: &[RegionState],
    request_counts: &[u64],
) -> anyhow::Result<Vec<u32>> {
    let inputs = regions.iter().zip(request_counts);
    let line = inputs
        .clone()
        .map(|(region, load)| format!("{},{load},{},{}", region.name, region.limit, region.weight));
    let shown = inputs.map(|(region, load)| format!("{} with load {load} of {}", region.name, region.limit));
    let shown = format!("the weights of [{}]", shown.collect::<Vec<_>>().join(", "));
    let question = Question { line: line.collect::<Vec<_>>().join(";"), description: shown.clone() };
    let answer = context.ask(program, &[question]).await?.remove(0);
    let weights: Vec<u32> = answer.split(',').filter_map(|weight| weight.parse().ok()).collect();
    if weights.len() != regions.len() {
        let what = "a weight for each region";
        let seen = format!("asked for {shown}, it returned {} weights", weights.len());
        return Err(
            Requirement::unmet(what, format!("{} weights", regions.len()), seen, "In their order.").into()
        );
    }
    Ok(weights)
}

async fn publish_weights(
    context: &mut CheckContext,
    mesh: &XdsEnvoy,
    regions: &[RegionState],
) -> anyhow::Result<()> {
    let region = |region: &RegionState| {
        Region::new(&region.name, region.weight, region.backends.iter().map(Backend::address))
    };
    let state = DesiredState {
        split: Split::Routes,
        ..DesiredState::from_regions(XdsEnvoy::ANYWHERE, regions.iter().map(region))
    };
    if let Err(refusal) = mesh.publish(state.snapshot(DataPlane::Envoy)?).await {
        let weights: Vec<_> = regions.iter().map(|region| region.weight.to_string()).collect();
        let seen = format!("weights {}: {refusal}", weights.join(", "));
        let advice = "Somebody has to get the calls: not all weights can be 0, whatever the load is.";
        context.require("Envoy accepts the weights", "an ACK", &seen, false, advice);
        return Err(Requirement::unmet("the rounds go on", "weights that Envoy accepts", seen, advice).into());
    }
    Ok(())
}

/// One round: so many calls, and how many of them Envoy itself says it sent to each region.
async fn run_round(
    mesh: &XdsEnvoy,
    caller: &Caller,
    regions: &[RegionState],
    demand: u32,
    calls: &mut Vec<Call>,
) -> anyhow::Result<Vec<u64>> {
    // Envoy's worker takes new weights up between two calls: after one more call it surely has.
    calls.push(caller.call().await);
    let before = request_counts(mesh, regions).await?;
    calls.extend(caller.calls(demand as usize, 8).await);
    let after = request_counts(mesh, regions).await?;
    Ok(after.iter().zip(before).map(|(after, before)| after - before).collect())
}

async fn request_counts(mesh: &XdsEnvoy, regions: &[RegionState]) -> anyhow::Result<Vec<u64>> {
    let stats = mesh.envoy.admin().stats(&format!("^cluster\\.{CLUSTER}-.*\\.upstream_rq_total$")).await?;
    let of = |region: &RegionState| {
        let name = format!("cluster.{CLUSTER}-{}.upstream_rq_total", region.name);
        stats.get(&name).copied().unwrap_or(0)
    };
    Ok(regions.iter().map(of).collect())
}

fn check_phases(context: &mut CheckContext, regions: &[RegionState], phases: &[Phase]) {
    let [quiet, busy, quiet_again] = phases else { return };
    let nearest = &regions[0];
    for (phase, when) in [(quiet, "while there is little to do"), (quiet_again, "when it is quiet again")] {
        let nearest_calls: u64 = phase.rounds.iter().map(|round| round[0]).sum();
        let of = u64::from(phase.demand) * phase.rounds.len() as u64;
        let advice = if phase.demand == quiet.demand && when.starts_with("while") {
            "The limit is a limit and no share: what is below it stays near."
        } else {
            "What was taken from the nearest region has to come back: reckon with what there is to do now (the sum \
             of the loads), and not with what one region got."
        };
        context.require(
            format!("the nearest region gets the calls {when}"),
            format!("at least 80 %, since {} is below the limit of {}", phase.demand, nearest.limit),
            format!(
                "{:.0} % of {of} calls went to {} {when}",
                100.0 * nearest_calls as f64 / of as f64,
                nearest.name
            ),
            nearest_calls * 10 >= of * 8,
            advice,
        );
        if when.starts_with("while") {
            check_busy_phase(context, regions, busy);
        }
    }
}

/// No region over its limit in any round, and the nearest one not left empty.
fn check_busy_phase(context: &mut CheckContext, regions: &[RegionState], busy: &Phase) {
    let nearest = |round: &Vec<u64>| round[0];
    let oscillates = busy.rounds.iter().map(nearest).min() < Some(u64::from(regions[0].limit) / 4)
        && busy.rounds.iter().map(nearest).max() > Some(u64::from(regions[0].limit));
    let advice = [
        if oscillates {
            "It swings: a region that was just emptied looks as if it had room for everything. Give it what fits, and \
             not all or nothing."
        } else {
            "Weights are parts of what there is to do now (the sum of the loads): a limit is limit / sum of it."
        },
        "What the nearest region cannot take goes to the next one, which has a limit too.",
        "",
    ];
    for (at, region) in regions.iter().enumerate().take(2) {
        let most = busy.rounds.iter().map(|round| round[at]).max().unwrap_or(0);
        let share = f64::from(region.limit) / f64::from(busy.demand);
        let allowed = *stats::acceptance_interval(u64::from(busy.demand), share).end();
        context.require(
            format!("{} stays below its limit when there is much to do", region.name),
            format!("at most {} ({allowed} with what chance may add)", region.limit),
            format!("{} got {most} of {} calls in its fullest second", region.name, busy.demand),
            most <= allowed,
            advice[at],
        );
    }
    let rounds: Vec<u64> = busy.rounds.iter().map(nearest).collect();
    let mean = rounds.iter().sum::<u64>() / rounds.len().max(1) as u64;
    context.require(
        format!("{} is used when there is much to do", regions[0].name),
        format!("60 % of its limit of {} or more", regions[0].limit),
        format!("{} got {mean} calls a second", regions[0].name),
        mean * 10 >= u64::from(regions[0].limit) * 6,
        "A limit is there to be used: the nearest region gets as much as it can take.",
    );
}
