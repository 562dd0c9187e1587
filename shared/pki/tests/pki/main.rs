//! The chain of trust: what is issued is believed, and what is wrong is refused with its reason.
//!
//! Knows how to make the chain that most tests look at: a root, an intermediate, and a leaf for `web.example`. What
//! has to hold is in the modules, a subject each.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod issued;

mod test_certificate;

mod certificates;

mod chains;

mod files;

mod openssl;

use std::time::{Duration, SystemTime};

use mesh_pki::{Intermediate, Issued, Names, Purpose, Root, Roots, Usage, Validity};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WEB: &str = "spiffe://mesh/ns/demo/sa/web";

fn life(days: u32) -> Validity {
    Validity::from_now(DAY * days).unwrap()
}

fn root() -> Root {
    Root::generate("test root", life(300)).unwrap()
}

fn intermediate() -> Intermediate {
    root().sign_intermediate("test intermediate", life(30)).unwrap()
}

fn names() -> Names {
    Names::default().dns("web.example").unwrap().ip([127, 0, 0, 1]).spiffe(WEB).unwrap()
}

fn leaf(from: &Intermediate, usage: Usage) -> Issued {
    from.issue(&names(), usage, life(1)).unwrap()
}

fn roots(of: &Intermediate) -> Roots {
    Roots::from_pem(of.root_pem()).unwrap()
}

fn server() -> Purpose {
    Purpose::server("web.example").unwrap()
}

fn now() -> SystemTime {
    SystemTime::now()
}
