//! Exercise 3: a memory of used tokens that can be neither fooled nor filled up.

use mesh_lab::{CheckContext, Question};

const HARNESS: &str = include_str!("replay/harness.rs");

const FILE: &str = "used.rs";

/// Tokens of the long run.
const MANY: u64 = 20_000;

/// Memory that one id may cost, in bytes: itself, its time, and the room that a table keeps free.
const EACH: usize = 512;

/// Memory that is there in any case.
const BASE: usize = 16 * 1024;

/// A sequence, and what each token of it is to be told.
struct Sequence {
    what: &'static str,
    advice: &'static str,
    most: usize,
    tokens: Vec<Token>,
}

struct Token {
    jti: String,
    exp: u64,
    now: u64,
    wanted: bool,
    /// What is special about it.
    shown: String,
}

pub(super) async fn check(bench: &mut CheckContext) -> anyhow::Result<()> {
    let sequences = sequences(bench);
    let program = bench.compile(FILE, HARNESS).await?;
    let question = |sequence: &Sequence| Question {
        line: sequence.line(),
        description: format!("what it says in \"{}\"", sequence.what),
    };
    let questions: Vec<_> = sequences.iter().map(question).collect();
    let answers = bench.ask(&program, &questions).await?;
    for (sequence, answer) in sequences.iter().zip(&answers) {
        let (said, held) = answer.split_once('|').unwrap_or((answer, ""));
        sequence.judge(bench, said);
        if sequence.tokens.len() > sequence.most * 10 {
            let bound = BASE + EACH * sequence.most;
            let held: usize = held.parse().unwrap_or(usize::MAX);
            bench.require(
                format!("{}: what it holds is bounded", sequence.what),
                format!("at most {bound}"),
                format!(
                    "After {} tokens it held {held} bytes, with room for {} ids",
                    sequence.tokens.len(),
                    sequence.most
                ),
                held <= bound,
                "What expired is of no use any more, and what is remembered must not grow with what comes.",
            );
        }
    }
    Ok(())
}

impl Sequence {
    fn new(what: &'static str, advice: &'static str, most: usize) -> Self {
        Self { what, advice, most, tokens: Vec::new() }
    }

    fn add(&mut self, jti: &str, exp: u64, now: u64, wanted: bool, shown: impl Into<String>) {
        self.tokens.push(Token { jti: jti.to_owned(), exp, now, wanted, shown: shown.into() });
    }

    fn line(&self) -> String {
        let mut line = self.most.to_string();
        for Token { jti, exp, now, .. } in &self.tokens {
            line += &format!(";{jti},{exp},{now}");
        }
        line
    }

    fn judge(&self, bench: &mut CheckContext, said: &str) {
        let word = |yes| if yes { "a yes" } else { "a no" };
        let wrong = self.tokens.iter().zip(said.chars()).find(|(token, said)| token.wanted != (*said == 'y'));
        let n = self.tokens.len();
        match wrong {
            None => bench.require(
                self.what,
                format!("all {n}"),
                format!("{n} tokens were told the right thing"),
                true,
                "",
            ),
            Some((Token { exp, now, wanted, shown, .. }, _)) => bench.require(
                self.what,
                word(*wanted),
                format!("At second {now}, {shown} (exp {exp}) got {}", word(!wanted)),
                false,
                self.advice,
            ),
        }
    }
}

fn sequences(bench: &mut CheckContext) -> Vec<Sequence> {
    let start = u64::from(bench.rng.number(1_000_000..=9_000_000));
    let life = u64::from(bench.rng.number(200..=400));
    let most = bench.rng.number(40..=60) as usize;
    let names = bench.rng.names(3);
    let (a, b, c) = (&names[0], &names[1], &names[2]);
    let end = start + life;

    let mut once =
        Sequence::new("a token is used once", "Its id was seen before, and the token is valid still.", most);
    once.add(a, end, start, true, "a new token");
    once.add(b, end, start, true, "another new token");
    once.add(a, end, start + 1, false, "a token that was used a second ago");
    once.add(a, end, end - 1, false, "a token that was used before, in its last second,");
    once.add(b, end + 50, start + 2, false, "a token with a used id and a later exp");

    let mut over = Sequence::new(
        "a token is refused from its end on",
        "A token is valid before `exp`, and not at it.",
        most,
    );
    over.add(a, start, start, false, "a token whose time ends now");
    over.add(b, start - 1, start, false, "a token whose time is over");
    over.add(c, start + 1, start, true, "a token that is valid for one second more");

    let mut odd =
        Sequence::new("ids are 1 to 64 bytes", "An id of any length would be memory of any size.", most);
    odd.add("", end, start, false, "a token without an id");
    odd.add("x*64", end, start, true, "an id of 64 bytes");
    odd.add("x*65", end, start, false, "an id of 65 bytes");
    odd.add("y*200000", end, start, false, "an id of 200000 bytes");

    let mut flood = Sequence::new(
        "a flood makes it forget nothing",
        "Somebody with many tokens can push out any id that you are willing to forget. Full means no, until something \
         expires.",
        most,
    );
    flood.add(a, end, start, true, "a new token");
    for number in 1..most {
        flood.add(
            &format!("flood-{number}"),
            end + 100,
            start + 1,
            true,
            format!("token {number} of a flood"),
        );
    }
    flood.add(&format!("flood-{most}"), end + 100, start + 1, false, "a token for which there is no room");
    flood.add(a, end, start + 2, false, format!("a token that was used before {most} others came"));
    flood.add("after", end + 200, end, true, "a new token, when the first one has expired,");

    let mut back = Sequence::new(
        "a clock that is set back makes nothing valid again",
        "The id was forgotten when the token had expired, and then the clock was set back. Time that once was seen has \
         passed: keep the latest.",
        2,
    );
    back.add(a, start + 60, start, true, "a new token");
    // Twice, so that it is full, and whoever makes room does it now.
    for (number, name) in [b, c].into_iter().enumerate() {
        back.add(name, end + 500, start + 60 + number as u64, true, "a new token, when there is room again,");
    }
    back.add(a, start + 60, start + 1, false, "a token that was used, and the clock set back since,");
    // `b` and `c` have ended too, so that there is room.
    back.add("later", end + 900, end + 501, true, "a new token, much later,");
    back.add(a, start + 60, start + 2, false, "a token that was used, and the clock set back far,");

    let mut long = Sequence::new(
        "tokens come and go for a long time",
        "Most of what is remembered expired long ago: it has to make room.",
        most,
    );
    for number in 0..MANY {
        // Twenty are valid at once.
        let now = start + number;
        long.add(&format!("id-{number}"), now + 20, now, true, format!("token {} of many", number + 1));
    }
    vec![once, over, odd, long, flood, back]
}
