//! Exercise 4: the step function of a control plane's stream, held to the rules about ACK and NACK.
//!
//! The numbers are those of the rules in this project's own tests of its control plane (`shared/xds/tests/acks.rs`
//! and its neighbours): `c11` is the rule that a refused version is not sent again.

use mesh_lab::{CheckContext, Question, Requirement};

const HARNESS: &str = include_str!("nack/harness.rs");

const FILE: &str = "stream.rs";

/// One thing that happens to the stream, and what it is to do.
struct Event {
    line: String,
    shown: String,
    wanted: Wanted,
    /// The version that is to be noted as refused afterwards.
    refused: String,
}

/// What the stream is to do.
enum Wanted {
    Silence,
    /// A response of this version with these names.
    Sends(String, Vec<String>),
}

/// A rule, and a course of events that shows whether it is kept.
struct Scenario {
    rule: &'static str,
    advice: &'static str,
    events: Vec<Event>,
}

/// Versions and names of one check.
struct World {
    versions: Vec<String>,
    names: Vec<String>,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let versions = (0..3).map(|_| format!("{:04x}", bench.rng.number(0x1000..=0xffff))).collect();
    let world = World { versions, names: bench.rng.names(3) };
    let scenarios = world.scenarios();
    let program = bench.compile(FILE, HARNESS).await?;
    let question = |scenario: &Scenario| Question {
        line: scenario.events.iter().map(|event| event.line.as_str()).collect::<Vec<_>>().join(";"),
        description: format!("what it does in \"{}\"", scenario.rule),
    };
    let questions: Vec<_> = scenarios.iter().map(question).collect();
    let answers = bench.ask(&program, &questions).await?;
    for (scenario, answer) in scenarios.iter().zip(&answers) {
        match scenario.judge(answer) {
            Ok(()) => {
                let n = scenario.events.len();
                bench.require(
                    scenario.rule,
                    format!("all {n}"),
                    format!("{n} events had the right outcome"),
                    true,
                    "",
                );
            }
            Err(found) => bench.require(found.what, found.expected, found.seen, false, found.advice),
        }
    }
    Ok(())
}

impl Scenario {
    fn judge(&self, answer: &str) -> Result<(), Requirement> {
        for (at, (event, did)) in self.events.iter().zip(answer.split(';')).enumerate() {
            let mut did = did.split('|');
            let (version, names) = (did.next().unwrap_or_default(), did.next().unwrap_or_default());
            let refused = did.next().unwrap_or_default();
            let mut named: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
            named.sort_unstable();
            let (well, expected) = match &event.wanted {
                Wanted::Silence => (version == "-", "silence".to_owned()),
                Wanted::Sends(wanted, all) => (
                    version == wanted && named == *all,
                    format!("version {wanted} with {}", all.join(" and ")),
                ),
            };
            let so_far: Vec<&str> = self.events[..=at].iter().map(|event| event.shown.as_str()).collect();
            let so_far = so_far.join(", then ");
            let unmet =
                |expected: String, seen: String| Requirement::unmet(self.rule, expected, seen, self.advice);
            if !well {
                let seen = match version {
                    "-" => format!("after {so_far}, it was silent"),
                    version => {
                        format!("after {so_far}, it sent version {version} with {}", named.join(" and "))
                    }
                };
                return Err(unmet(expected, seen));
            }
            if refused != event.refused {
                let said = |version: &str| match version {
                    "" => "that nothing is refused".to_owned(),
                    version => format!("that {version} is refused"),
                };
                return Err(unmet(
                    format!("`refused` to say {}", said(&event.refused)),
                    format!("after {so_far}, `refused` says {}", said(refused)),
                ));
            }
        }
        Ok(())
    }
}

impl World {
    fn scenarios(&self) -> Vec<Scenario> {
        let World { versions, names } = self;
        let (one, two, three) = (versions[0].as_str(), versions[1].as_str(), versions[2].as_str());
        let (a, b) = (names[0].as_str(), names[1].as_str());
        let ask = |names: &[&str]| request(names, "", "", "");
        let scenario = |rule, advice, events| Scenario { rule, advice, events };
        vec![
            scenario(
                "c14: an ACK alone is not answered",
                "What is there to send, if the client has all that it asked for?",
                vec![
                    self.publish(one).silent(),
                    ask(&[a]).sends(one, &[a]),
                    request(&[a], one, "#1", "").silent(),
                    self.publish(two).sends(two, &[a]),
                    request(&[a], two, "#2", "").silent(),
                ],
            ),
            scenario(
                "c28: a newly named resource is sent, though the version is the same",
                "The client has this version, but not this resource of it.",
                vec![
                    self.publish(one).silent(),
                    ask(&[a]).sends(one, &[a]),
                    request(&[a], one, "#1", "").silent(),
                    request(&[a, b], one, "#1", "").sends(one, &[a, b]),
                ],
            ),
            scenario(
                "c11: a refused version is not sent again",
                "A client that refused it once refuses it again, and so on for ever, as fast as both can. Remember \
                 which version was refused, and be silent until there is another one.",
                vec![
                    self.publish(one).silent(),
                    ask(&[a]).sends(one, &[a]),
                    request(&[a], "", "#1", "no").silent().refused(one),
                ],
            ),
            scenario(
                "c11: a refused version is not sent later either",
                "Not knowing what a client has is no reason to send it what it refused.",
                vec![
                    self.publish(one).silent(),
                    ask(&[a]).sends(one, &[a]),
                    request(&[a], one, "#1", "").silent(),
                    self.publish(two).sends(two, &[a]),
                    request(&[a], one, "#2", "no").silent().refused(two),
                    request(&[a], one, "#2", "").silent().refused(two),
                    self.publish(two).silent().refused(two),
                ],
            ),
            scenario(
                "c16: a correction after a NACK goes out at once",
                "The client has answered, with a no: it waits for something better, and not for its own ACK.",
                vec![
                    self.publish(one).silent(),
                    ask(&[a]).sends(one, &[a]),
                    request(&[a], "", "#1", "no").silent().refused(one),
                    self.publish(two).sends(two, &[a]).refused(one),
                    request(&[a], two, "#2", "").silent(),
                    self.publish(three).sends(three, &[a]),
                ],
            ),
            scenario(
                "c10, c13: it is a NACK if there is an error, whatever the version says",
                "The version in a request is what the client goes by. That may be the current one in a NACK, if only \
                 what it newly asked for was bad, and an old one in an ACK. Look at `error`.",
                vec![
                    self.publish(one).silent(),
                    ask(&[a]).sends(one, &[a]),
                    request(&[a], "", "#1", "").silent(),
                    request(&[a, b], one, "#1", "").sends(one, &[a, b]),
                    request(&[a, b], one, "#2", "no").silent().refused(one),
                ],
            ),
            scenario(
                "c17: an answer to a response that was overtaken does not count",
                "Its nonce is not that of the last response: the request speaks of something that is past.",
                vec![
                    self.publish(one).silent(),
                    ask(&[a]).sends(one, &[a]),
                    self.publish(two).sends(two, &[a]),
                    request(&[a], "", "#1", "no").silent(),
                    request(&[a], two, "#2", "").silent(),
                    self.publish(three).sends(three, &[a]),
                ],
            ),
        ]
    }

    /// A publication of all resources in this version.
    fn publish(&self, version: &str) -> Event {
        let resources: Vec<String> = self.names.iter().map(|name| format!("{name}={version}")).collect();
        let line = format!("P|{version}|{}", resources.join(","));
        event(line, format!("publishing {version}"))
    }
}

/// A request; without a nonce it is the stream's first one.
fn request(names: &[&str], version: &str, nonce: &str, error: &str) -> Event {
    let listed = names.join(" and ");
    let shown = match (nonce, error) {
        ("", _) => format!("a first request for {listed}"),
        (nonce, "") => {
            format!("a request that answers {nonce} without an error (names {listed}, version {version:?})")
        }
        (nonce, _) => format!("one that answers {nonce} with an error (names {listed}, version {version:?})"),
    };
    event(format!("R|{}|{version}|{nonce}|{error}", names.join(",")), shown)
}

fn event(line: String, shown: String) -> Event {
    Event { line, shown, wanted: Wanted::Silence, refused: String::new() }
}

impl Event {
    fn silent(self) -> Self {
        self
    }

    fn sends(self, version: &str, names: &[&str]) -> Self {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        Self { wanted: Wanted::Sends(version.to_owned(), names), ..self }
    }

    fn refused(self, version: &str) -> Self {
        Self { refused: version.to_owned(), ..self }
    }
}
