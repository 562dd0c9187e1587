//! What Linux says about processes and their queues, in `/proc`.

use std::fs;
use std::io;

/// How many connections wait in the queues of all IPv4 listeners of this port: they are open for the client, and no
/// process has accepted them.
pub(crate) fn queued(port: u16) -> io::Result<u64> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    Ok(table.lines().filter_map(|line| queue_of(line, port)).sum())
}

/// The queue's length, if this line is a listener of the port.
fn queue_of(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    // sl, local address, remote address, state, tx_queue:rx_queue; a listener's rx_queue is its accept queue.
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next()?, fields.nth(1)?);
    let (_, received) = fields.next()?.split_once(':')?;
    let of_port = local.split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    let queue = u64::from_str_radix(received, 16).ok()?;
    (state == LISTEN && of_port == Some(port)).then_some(queue)
}

/// Whether the process is suspended.
pub(crate) fn is_suspended(pid: u32) -> io::Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may hold anything, parentheses too.
    Ok(stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
}

#[cfg(test)]
mod tests {
    use super::queue_of;

    #[test]
    fn the_accept_queue_of_a_listener_is_found_by_its_port() {
        let listener = "   7: 0100007F:2710 00000000:0000 0A 00000000:0000002B 00:00000000 00000000     0        0 84 1 0";
        assert_eq!(queue_of(listener, 10000), Some(43));
        assert_eq!(queue_of(listener, 10001), None);
        let connection = listener.replace(" 0A ", " 01 ");
        assert_eq!(queue_of(&connection, 10000), None);
        assert_eq!(
            queue_of("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when", 10000),
            None
        );
    }
}
