//! The clients: one connection with one ADS stream each, in Envoy's order, accepting everything.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use mesh_xds::ResourceType;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::http2::Connection;
use super::message::{Head, Reader, framed, put};

/// How many connections are opened at once; the kernel's queue of a listener is not much longer.
const OPENING: usize = 64;

/// What every client says, prepared once.
pub(crate) struct Script {
    delta: bool,
    subscriptions: Vec<(ResourceType, Bytes)>,
    /// The names that a state-of-the-world ACK repeats, as fields.
    names: Vec<Vec<u8>>,
    received: Cell<u64>,
}

/// Envoy's order.
const ORDER: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Route];

impl Script {
    pub(crate) fn new(delta: bool, clusters: u32) -> Self {
        // Both variants number a list of names 3: `resource_names`, `resource_names_subscribe`.
        let listed = |stem: &str, count: u32| {
            let mut out = Vec::new();
            (0..count).for_each(|index| put(&mut out, 3, format!("{stem}-{index}").as_bytes()));
            out
        };
        let none = Vec::new;
        let names = vec![none(), listed("cluster", clusters), none(), listed("route", super::server::ROUTES)];
        let subscriptions = ORDER.into_iter().zip(&names).map(|(kind, names)| {
            let mut out = Vec::new();
            if kind == ResourceType::Cluster {
                // Node, with its id only; field 1 in delta, 2 in the other variant.
                let mut node = Vec::new();
                put(&mut node, 1, b"fanout");
                put(&mut out, if delta { 1 } else { 2 }, &node);
            }
            put(&mut out, if delta { 2 } else { 4 }, kind.url().as_bytes());
            out.extend_from_slice(names);
            (kind, framed(&out))
        });
        let subscriptions = subscriptions.collect();
        Self { delta, subscriptions, names, received: Cell::new(0) }
    }

    /// Bytes that all clients received.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    fn path(&self) -> String {
        let variant = if self.delta { "Delta" } else { "Stream" };
        format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{variant}AggregatedResources")
    }

    fn ack(&self, at: usize, head: &Head) -> Bytes {
        let mut out = Vec::with_capacity(160 + self.names[at].len());
        if self.delta {
            put(&mut out, 2, &head.kind);
            put(&mut out, 6, &head.nonce);
        } else {
            put(&mut out, 1, &head.version);
            out.extend_from_slice(&self.names[at]);
            put(&mut out, 4, &head.kind);
            put(&mut out, 5, &head.nonce);
        }
        framed(&out)
    }
}

/// Where the clients meet.
#[derive(Default)]
struct Board {
    configured: Cell<u32>,
    receipts: RefCell<Vec<Instant>>,
    broken: RefCell<Option<anyhow::Error>>,
    news: Notify,
}

/// All clients; dropping it ends them.
pub(crate) struct Crowd {
    size: u32,
    board: Rc<Board>,
    _clients: JoinSet<()>,
}

impl Crowd {
    /// Connects this many.
    pub(crate) async fn open(server: SocketAddr, size: u32, script: &Rc<Script>) -> anyhow::Result<Self> {
        let (board, mut clients) = (Rc::new(Board::default()), JoinSet::new());
        let places = Arc::new(tokio::sync::Semaphore::new(OPENING));
        for _ in 0..size {
            let place = Arc::clone(&places).acquire_owned().await?;
            let (board, script) = (Rc::clone(&board), Rc::clone(script));
            clients.spawn_local(async move {
                let outcome = async {
                    let socket = TcpStream::connect(server).await?;
                    drop(place);
                    Client::new(&script, &board).run(socket).await
                };
                if let Err(error) = outcome.await {
                    board.broken.borrow_mut().get_or_insert(error);
                    board.news.notify_one();
                }
            });
        }
        Ok(Self { size, board, _clients: clients })
    }

    /// Waits until every client holds everything.
    pub(crate) async fn all_configured(&self, limit: Duration) -> anyhow::Result<()> {
        self.wait(limit, || self.board.configured.get()).await
    }

    pub(crate) fn forget_receipts(&self) {
        self.board.receipts.borrow_mut().clear();
    }

    /// Waits until every client received something since [`forget_receipts`](Self::forget_receipts).
    pub(crate) async fn all_received(&self, limit: Duration) -> anyhow::Result<Vec<Instant>> {
        self.wait(limit, || self.board.receipts.borrow().len() as u32).await?;
        Ok(self.board.receipts.borrow().clone())
    }

    pub(crate) fn last_receipt(&self) -> Instant {
        self.board.receipts.borrow().iter().copied().max().unwrap_or_else(Instant::now)
    }

    async fn wait(&self, limit: Duration, count: impl Fn() -> u32) -> anyhow::Result<()> {
        let waiting = async {
            while count() < self.size {
                self.board.news.notified().await;
                if let Some(error) = self.board.broken.borrow_mut().take() {
                    return Err(error);
                }
            }
            Ok(())
        };
        let waited = tokio::time::timeout(limit, waiting).await;
        waited.with_context(|| format!("only {} of {} clients got there", count(), self.size))?
    }
}

struct Client<'a> {
    script: &'a Script,
    board: &'a Board,
    connection: Connection,
    messages: Reader,
    /// How many of the types were subscribed to, and answered for the first time.
    asked: usize,
    answered: usize,
}

impl<'a> Client<'a> {
    fn new(script: &'a Script, board: &'a Board) -> Self {
        let mut connection = Connection::new(&script.path());
        connection.send(script.subscriptions[0].1.clone());
        Self { script, board, connection, messages: Reader::default(), asked: 1, answered: 0 }
    }

    async fn run(mut self, socket: TcpStream) -> anyhow::Result<()> {
        socket.set_nodelay(true)?;
        loop {
            self.flush(&socket).await?;
            socket.readable().await?;
            // On the thread's stack and not held across an await, so that clients share it.
            let mut buffer = [0; 32 * 1024];
            match socket.try_read(&mut buffer) {
                Ok(0) => anyhow::bail!("the server closed a connection"),
                Ok(size) => self.take(&buffer[..size])?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn flush(&mut self, socket: &TcpStream) -> anyhow::Result<()> {
        while !self.connection.out.is_empty() {
            match socket.try_write(&self.connection.out) {
                Ok(size) => drop(self.connection.out.split_to(size)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => socket.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.script.received.set(self.script.received.get() + bytes.len() as u64);
        let (messages, mut heads) = (&mut self.messages, Vec::new());
        self.connection.receive(bytes, |data| messages.read(data, |head| heads.push(head)))?;
        for head in heads {
            self.answer(&head)?;
        }
        Ok(())
    }

    fn answer(&mut self, head: &Head) -> anyhow::Result<()> {
        let of_kind = |(kind, _): &(ResourceType, Bytes)| kind.url().as_bytes() == head.kind;
        let at =
            self.script.subscriptions.iter().position(of_kind).context("a type that nobody asked for")?;
        if self.answered == ORDER.len() {
            self.board.receipts.borrow_mut().push(Instant::now());
            self.board.news.notify_one();
        } else if at == self.answered {
            self.answered += 1;
            // The next subscription stands before the ACK, as Envoy sends it.
            if let Some((_, next)) = self.script.subscriptions.get(self.asked) {
                self.connection.send(next.clone());
                self.asked += 1;
            } else {
                self.board.configured.set(self.board.configured.get() + 1);
                self.board.news.notify_one();
            }
        }
        self.connection.send(self.script.ack(at, head));
        Ok(())
    }
}
