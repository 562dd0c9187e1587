//! Exercise 3: a memory of used tokens that can be neither fooled nor filled up.

use mesh_lab::{CheckContext, Question};

const HARNESS: &str = include_str!("replay/harness.rs");

const FILE: &str = "replay_cache.rs";

/// Tokens of the long run.
const LONG_RUN_TOKENS: u64 = 20_000;

/// Memory that one id may cost, in bytes: itself, its time, and the room that a table keeps free.
const BYTES_PER_ID: usize = 512;

/// Memory that is there in any case.
const BASE_BYTES: usize = 16 * 1024;

/// A sequence, and what each token of it is to be told.
struct Sequence {
    rule: &'static str,
    advice: &'static str,
    capacity: usize,
    tokens: Vec<Token>,
}

struct Token {
    jti: String,
    exp: u64,
    now: u64,
    accepted: bool,
    /// What is special about it.
    description: String,
}

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let sequences = sequences(context);
    let program = context.compile(FILE, HARNESS).await?;
    let question = |sequence: &Sequence| Question {
        line: sequence.line(),
        description: format!("what it says in \"{}\"", sequence.rule),
    };
    let questions: Vec<_> = sequences.iter().map(question).collect();
    let answers = context.ask(&program, &questions).await?;
    for (sequence, answer) in sequences.iter().zip(&answers) {
        let (answers, retained_bytes) = answer.split_once('|').unwrap_or((answer, ""));
        sequence.verify(context, answers);
        if sequence.tokens.len() > sequence.capacity * 10 {
            let bound = BASE_BYTES + BYTES_PER_ID * sequence.capacity;
            let retained_bytes: usize = retained_bytes.parse().unwrap_or(usize::MAX);
            context.require(
                format!("{}: what it holds is bounded", sequence.rule),
                format!("at most {bound}"),
                format!(
                    "After {} tokens it held {retained_bytes} bytes, with room for {} ids",
                    sequence.tokens.len(),
                    sequence.capacity
                ),
                retained_bytes <= bound,
                "What expired is of no use any more, and what is remembered must not grow with what comes.",
            );
        }
    }
    Ok(())
}

impl Sequence {
    fn new(rule: &'static str, advice: &'static str, capacity: usize) -> Self {
        Self { rule, advice, capacity, tokens: Vec::new() }
    }

    fn add(&mut self, jti: &str, exp: u64, now: u64, accepted: bool, description: impl Into<String>) {
        self.tokens.push(Token { jti: jti.to_owned(), exp, now, accepted, description: description.into() });
    }

    fn line(&self) -> String {
        let mut line = self.capacity.to_string();
        for Token { jti, exp, now, .. } in &self.tokens {
            line += &format!(";{jti},{exp},{now}");
        }
        line
    }

    fn verify(&self, context: &mut CheckContext, answers: &str) {
        let verdict = |yes| if yes { "a yes" } else { "a no" };
        let wrong = self
            .tokens
            .iter()
            .zip(answers.chars())
            .find(|(token, answer)| token.accepted != (*answer == 'y'));
        let n = self.tokens.len();
        match wrong {
            None => context.require(
                self.rule,
                format!("all {n}"),
                format!("{n} tokens were told the right thing"),
                true,
                "",
            ),
            Some((Token { exp, now, accepted, description, .. }, _)) => context.require(
                self.rule,
                verdict(*accepted),
                format!("At second {now}, {description} (exp {exp}) got {}", verdict(!accepted)),
                false,
                self.advice,
            ),
        }
    }
}

fn sequences(context: &mut CheckContext) -> Vec<Sequence> {
    let start = u64::from(context.rng.number(1_000_000..=9_000_000));
    let life = u64::from(context.rng.number(200..=400));
    let capacity = context.rng.number(40..=60) as usize;
    let names = context.rng.names(3);
    let (a, b, c) = (&names[0], &names[1], &names[2]);
    let end = start + life;

    let mut single_use = Sequence::new(
        "a token is used once",
        "Its id was seen before, and the token is valid still.",
        capacity,
    );
    single_use.add(a, end, start, true, "a new token");
    single_use.add(b, end, start, true, "another new token");
    single_use.add(a, end, start + 1, false, "a token that was used a second ago");
    single_use.add(a, end, end - 1, false, "a token that was used before, in its last second,");
    single_use.add(b, end + 50, start + 2, false, "a token with a used id and a later exp");

    let mut expired = Sequence::new(
        "a token is refused from its end on",
        "A token is valid before `exp`, and not at it.",
        capacity,
    );
    expired.add(a, start, start, false, "a token whose time ends now");
    expired.add(b, start - 1, start, false, "a token whose time is over");
    expired.add(c, start + 1, start, true, "a token that is valid for one second more");

    let mut id_lengths =
        Sequence::new("ids are 1 to 64 bytes", "An id of any length would be memory of any size.", capacity);
    id_lengths.add("", end, start, false, "a token without an id");
    id_lengths.add("x*64", end, start, true, "an id of 64 bytes");
    id_lengths.add("x*65", end, start, false, "an id of 65 bytes");
    id_lengths.add("y*200000", end, start, false, "an id of 200000 bytes");

    let mut flood = Sequence::new(
        "a flood makes it forget nothing",
        "Somebody with many tokens can push out any id that you are willing to forget. Full means no, until something \
         expires.",
        capacity,
    );
    flood.add(a, end, start, true, "a new token");
    for number in 1..capacity {
        flood.add(
            &format!("flood-{number}"),
            end + 100,
            start + 1,
            true,
            format!("token {number} of a flood"),
        );
    }
    flood.add(
        &format!("flood-{capacity}"),
        end + 100,
        start + 1,
        false,
        "a token for which there is no room",
    );
    flood.add(a, end, start + 2, false, format!("a token that was used before {capacity} others came"));
    flood.add("after", end + 200, end, true, "a new token, when the first one has expired,");

    let mut clock_set_back = Sequence::new(
        "a clock that is set back makes nothing valid again",
        "The id was forgotten when the token had expired, and then the clock was set back. Time that once was seen has \
         passed: keep the latest.",
        2,
    );
    clock_set_back.add(a, start + 60, start, true, "a new token");
    // Twice, so that it is full, and whoever makes room does it now.
    for (number, name) in [b, c].into_iter().enumerate() {
        clock_set_back.add(
            name,
            end + 500,
            start + 60 + number as u64,
            true,
            "a new token, when there is room again,",
        );
    }
    clock_set_back.add(
        a,
        start + 60,
        start + 1,
        false,
        "a token that was used, and the clock set back since,",
    );
    // `b` and `c` have ended too, so that there is room.
    clock_set_back.add("later", end + 900, end + 501, true, "a new token, much later,");
    clock_set_back.add(a, start + 60, start + 2, false, "a token that was used, and the clock set back far,");

    let mut long_run = Sequence::new(
        "tokens come and go for a long time",
        "Most of what is remembered expired long ago: it has to make room.",
        capacity,
    );
    for number in 0..LONG_RUN_TOKENS {
        // Twenty are valid at once.
        let now = start + number;
        long_run.add(&format!("id-{number}"), now + 20, now, true, format!("token {} of many", number + 1));
    }
    vec![single_use, expired, id_lengths, long_run, flood, clock_set_back]
}
