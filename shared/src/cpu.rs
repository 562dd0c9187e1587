//! How much CPU a process has used, by the kernel's books: the steadier figure where a machine does other things too.

use std::fs;
use std::time::Duration;

/// The CPU time that this process has used, all of its living threads together; none where it cannot be read.
///
/// Source: proc(5), `/proc/PID/task/TID/schedstat`, whose first number is in nanoseconds.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let used = threads.flatten().filter_map(|thread| {
        let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    let used: u64 = used.sum();
    (used > 0).then_some(Duration::from_nanos(used))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn work_is_seen_and_who_is_not_there_has_done_none() {
        let used = || cpu_time(std::process::id()).expect("we run");
        let (before, begun) = (used(), Instant::now());
        while used() == before {
            assert!(begun.elapsed() < Duration::from_secs(20), "looking is work, and none was seen");
        }
        // Linux gives no process a number as high as this.
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
