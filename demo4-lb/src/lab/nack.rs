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
    description: String,
    expected_response: Expected,
    /// The version that must be recorded as rejected afterwards.
    rejected: String,
}

/// What the stream is to do.
enum Expected {
    NoResponse,
    /// A response of this version with these names.
    Response(String, Vec<String>),
}

/// A rule, and a course of events that shows whether it is kept.
struct Scenario {
    rule: &'static str,
    advice: &'static str,
    events: Vec<Event>,
}

/// Versions and names of one check.
struct TestData {
    versions: Vec<String>,
    names: Vec<String>,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let versions = (0..3).map(|_| format!("{:04x}", context.rng.number(0x1000..=0xffff))).collect();
    let data = TestData { versions, names: context.rng.names(3) };
    let scenarios = data.scenarios();
    let program = context.compile(FILE, HARNESS).await?;
    let question = |scenario: &Scenario| Question {
        line: scenario.events.iter().map(|event| event.line.as_str()).collect::<Vec<_>>().join(";"),
        description: format!("what it does in \"{}\"", scenario.rule),
    };
    let questions: Vec<_> = scenarios.iter().map(question).collect();
    let answers = context.ask(&program, &questions).await?;
    for (scenario, answer) in scenarios.iter().zip(&answers) {
        match scenario.verify(answer) {
            Ok(()) => {
                let n = scenario.events.len();
                context.require(
                    scenario.rule,
                    format!("all {n}"),
                    format!("{n} events had the right outcome"),
                    true,
                    "",
                );
            }
            Err(found) => context.require(found.what, found.expected, found.seen, false, found.advice),
        }
    }
    Ok(())
}

impl Scenario {
    fn verify(&self, answer: &str) -> Result<(), Requirement> {
        for (at, (event, outcome)) in self.events.iter().zip(answer.split(';')).enumerate() {
            let mut outcome = outcome.split('|');
            let (version, names) = (outcome.next().unwrap_or_default(), outcome.next().unwrap_or_default());
            let rejected = outcome.next().unwrap_or_default();
            let mut named: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
            named.sort_unstable();
            let (matches, expected) = match &event.expected_response {
                Expected::NoResponse => (version == "-", "silence".to_owned()),
                Expected::Response(expected_response, all) => (
                    version == expected_response && named == *all,
                    format!("version {expected_response} with {}", all.join(" and ")),
                ),
            };
            let history: Vec<&str> =
                self.events[..=at].iter().map(|event| event.description.as_str()).collect();
            let history = history.join(", then ");
            let unmet =
                |expected: String, seen: String| Requirement::unmet(self.rule, expected, seen, self.advice);
            if !matches {
                let seen = match version {
                    "-" => format!("after {history}, it was silent"),
                    version => {
                        format!("after {history}, it sent version {version} with {}", named.join(" and "))
                    }
                };
                return Err(unmet(expected, seen));
            }
            if rejected != event.rejected {
                let describe = |version: &str| match version {
                    "" => "None".to_owned(),
                    version => format!("Some({version:?})"),
                };
                return Err(unmet(
                    format!("`rejected_version` to return {}", describe(&event.rejected)),
                    format!("after {history}, `rejected_version` returned {}", describe(rejected)),
                ));
            }
        }
        Ok(())
    }
}

impl TestData {
    fn scenarios(&self) -> Vec<Scenario> {
        let TestData { versions, names } = self;
        let (one, two, three) = (versions[0].as_str(), versions[1].as_str(), versions[2].as_str());
        let (a, b) = (names[0].as_str(), names[1].as_str());
        let ask = |names: &[&str]| request(names, "", "", "");
        let scenario = |rule, advice, events| Scenario { rule, advice, events };
        vec![
            scenario(
                "c14: an ACK alone is not answered",
                "What is there to send, if the client has all that it asked for?",
                vec![
                    self.publish(one).no_response(),
                    ask(&[a]).responds(one, &[a]),
                    request(&[a], one, "#1", "").no_response(),
                    self.publish(two).responds(two, &[a]),
                    request(&[a], two, "#2", "").no_response(),
                ],
            ),
            scenario(
                "c28: a newly named resource is sent, though the version is the same",
                "The client has this version, but not this resource of it.",
                vec![
                    self.publish(one).no_response(),
                    ask(&[a]).responds(one, &[a]),
                    request(&[a], one, "#1", "").no_response(),
                    request(&[a, b], one, "#1", "").responds(one, &[a, b]),
                ],
            ),
            scenario(
                "c11: a refused version is not sent again",
                "A client that refused it once refuses it again, and so on for ever, as fast as both can. Remember \
                 which version was refused, and be silent until there is another one.",
                vec![
                    self.publish(one).no_response(),
                    ask(&[a]).responds(one, &[a]),
                    request(&[a], "", "#1", "no").no_response().rejected(one),
                ],
            ),
            scenario(
                "c11: a refused version is not sent later either",
                "Not knowing what a client has is no reason to send it what it refused.",
                vec![
                    self.publish(one).no_response(),
                    ask(&[a]).responds(one, &[a]),
                    request(&[a], one, "#1", "").no_response(),
                    self.publish(two).responds(two, &[a]),
                    request(&[a], one, "#2", "no").no_response().rejected(two),
                    request(&[a], one, "#2", "").no_response().rejected(two),
                    self.publish(two).no_response().rejected(two),
                ],
            ),
            scenario(
                "c16: a correction after a NACK goes out at once",
                "The client has answered, with a no: it waits for something better, and not for its own ACK.",
                vec![
                    self.publish(one).no_response(),
                    ask(&[a]).responds(one, &[a]),
                    request(&[a], "", "#1", "no").no_response().rejected(one),
                    self.publish(two).responds(two, &[a]).rejected(one),
                    request(&[a], two, "#2", "").no_response(),
                    self.publish(three).responds(three, &[a]),
                ],
            ),
            scenario(
                "c10, c13: it is a NACK if there is an error, whatever the version says",
                "The version in a request is what the client goes by. That may be the current one in a NACK, if only \
                 what it newly asked for was bad, and an old one in an ACK. Look at `error`.",
                vec![
                    self.publish(one).no_response(),
                    ask(&[a]).responds(one, &[a]),
                    request(&[a], "", "#1", "").no_response(),
                    request(&[a, b], one, "#1", "").responds(one, &[a, b]),
                    request(&[a, b], one, "#2", "no").no_response().rejected(one),
                ],
            ),
            scenario(
                "c17: an answer to a response that was overtaken does not count",
                "Its nonce is not that of the last response: the request speaks of something that is past.",
                vec![
                    self.publish(one).no_response(),
                    ask(&[a]).responds(one, &[a]),
                    self.publish(two).responds(two, &[a]),
                    request(&[a], "", "#1", "no").no_response(),
                    request(&[a], two, "#2", "").no_response(),
                    self.publish(three).responds(three, &[a]),
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
    let description = match (nonce, error) {
        ("", _) => format!("a first request for {listed}"),
        (nonce, "") => {
            format!("a request that answers {nonce} without an error (names {listed}, version {version:?})")
        }
        (nonce, _) => format!("one that answers {nonce} with an error (names {listed}, version {version:?})"),
    };
    event(format!("R|{}|{version}|{nonce}|{error}", names.join(",")), description)
}

fn event(line: String, description: String) -> Event {
    Event { line, description, expected_response: Expected::NoResponse, rejected: String::new() }
}

impl Event {
    fn no_response(self) -> Self {
        self
    }

    fn responds(self, version: &str, names: &[&str]) -> Self {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        Self { expected_response: Expected::Response(version.to_owned(), names), ..self }
    }

    fn rejected(self, version: &str) -> Self {
        Self { rejected: version.to_owned(), ..self }
    }
}
