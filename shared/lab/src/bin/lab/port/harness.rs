//! What the student's function is given, a socket by the kernel's own calls; and the server that it is for.

use std::io::{Error, Read, Result, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What can be set on a socket.
#[derive(Clone, Copy)]
pub enum SocketOption {
    /// SO_REUSEADDR
    ReuseAddress = 2,
    /// SO_REUSEPORT
    ReusePort = 15,
    /// SO_KEEPALIVE
    KeepAlive = 9,
}

/// A TCP socket.
pub struct Socket(OwnedFd);

const SOL_SOCKET: i32 = 1;

#[repr(C)]
struct Address {
    family: u16,
    port: [u8; 2],
    ip: [u8; 4],
    zero: [u8; 8],
}

unsafe extern "C" {
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const i32, length: u32) -> i32;
    fn getsockopt(fd: i32, level: i32, name: i32, value: *mut i32, length: *mut u32) -> i32;
    fn bind(fd: i32, address: *const Address, length: u32) -> i32;
    fn listen(fd: i32, backlog: i32) -> i32;
}

fn checked(returned: i32) -> Result<i32> {
    if returned < 0 { Err(Error::last_os_error()) } else { Ok(returned) }
}

impl Socket {
    /// A new one, with every option off.
    pub fn new() -> Result<Self> {
        unsafe { Ok(Self(OwnedFd::from_raw_fd(checked(socket(2, 1 | 0o2000000, 0))?))) }
    }

    /// setsockopt(2): switches an option on or off.
    pub fn set(&self, option: SocketOption, on: bool) -> Result<()> {
        let value = i32::from(on);
        checked(unsafe { setsockopt(self.0.as_raw_fd(), SOL_SOCKET, option as i32, &value, 4) }).map(drop)
    }

    /// bind(2): takes a port of 127.0.0.1; port 0 takes any that is free.
    pub fn bind(&self, port: u16) -> Result<()> {
        let address = Address { family: 2, port: port.to_be_bytes(), ip: [127, 0, 0, 1], zero: [0; 8] };
        let bound = checked(unsafe { bind(self.0.as_raw_fd(), &address, size_of::<Address>() as u32) });
        bound.map(drop).map_err(|error| {
            let on = |option| if is_on(self.0.as_raw_fd(), option) { "on" } else { "off" };
            let code = if error.raw_os_error() == Some(98) { " (EADDRINUSE)" } else { "" };
            Error::other(format!(
                "bind to port {port}: {error}{code}; its socket had SO_REUSEPORT {} and SO_REUSEADDR {}",
                on(SocketOption::ReusePort),
                on(SocketOption::ReuseAddress)
            ))
        })
    }

    /// listen(2): takes connections from now on, so many of them waiting at most.
    pub fn listen(self, backlog: i32) -> Result<TcpListener> {
        checked(unsafe { listen(self.0.as_raw_fd(), backlog) })?;
        Ok(self.0.into())
    }
}

fn is_on(fd: RawFd, option: SocketOption) -> bool {
    let (mut value, mut length) = (0, 4);
    unsafe { getsockopt(fd, SOL_SOCKET, option as i32, &mut value, &mut length) == 0 && value != 0 }
}

/// `NAME PORT`: answers there by this name, until it is ended.
pub fn answer(question: &str) -> String {
    let (name, port) = question.split_once(' ').expect("a name and a port");
    let listener = crate::student::listen(port.parse().expect("a port")).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1);
    });
    let port = listener.local_addr().expect("a listener has an address").port();
    println!("listens: {port} {}", is_on(listener.as_raw_fd(), SocketOption::ReusePort));
    let body = format!("Hello from {name}\n");
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    loop {
        let Ok((mut connection, _)) = listener.accept() else { continue };
        _ = connection.set_read_timeout(Some(Duration::from_secs(2)));
        let mut request = [0; 2000];
        // A request of ours fits into one packet.
        if connection.read(&mut request).is_ok_and(|bytes| bytes > 0) {
            _ = connection.write_all(answer.as_bytes());
        }
    }
}
