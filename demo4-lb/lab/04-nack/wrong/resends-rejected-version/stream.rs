//! One client's stream, for one type of resource: the state of the world, without a network.

/// What a client says. Answers to responses are requests too.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The names of all resources that it wants.
    pub names: Vec<String>,
    /// The version that it goes by; empty at first.
    pub version: String,
    /// The nonce of the response that it answers; empty in the stream's first request.
    pub nonce: String,
    /// Why it refuses that response, if it does.
    pub error: Option<String>,
}

/// A response to the client.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The version of the snapshot.
    pub version: String,
    /// What the answer will quote; another one for each response.
    pub nonce: String,
    /// What it asked for, as far as that exists.
    pub resources: Vec<Resource>,
}

/// A named thing.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// What it is.
    pub body: String,
}

/// All there is.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Another one for each content.
    pub version: String,
    /// The resources.
    pub resources: Vec<Resource>,
}

/// What is known about the client.
#[derive(Debug, Default)]
pub struct Stream {
    /// How many responses there were; the last one's nonce.
    count: u64,
    /// What it asked for last.
    names: Vec<String>,
    /// The version that it was sent last.
    sent: Option<String>,
    /// The version that it rejected.
    rejected: Option<String>,
}

impl Stream {
    /// Handles a request of the client. `snapshot` is the current one. Returns the response to send, if there is one.
    pub fn on_request(&mut self, request: &Request, snapshot: &Snapshot) -> Option<Response> {
        if !request.nonce.is_empty() && request.nonce != self.count.to_string() {
            // It speaks of a response that was overtaken.
            return None;
        }
        if request.error.is_some() {
            self.rejected = self.sent.take();
            return None;
        }
        if self.sent != self.rejected {
            self.rejected = None;
        }
        let new = request.names.iter().any(|name| !self.names.contains(name));
        self.names = request.names.clone();
        if new || self.sent.as_ref() != Some(&snapshot.version) { self.send(snapshot) } else { None }
    }

    /// Handles a new snapshot. Returns the response to send, if there is one.
    pub fn on_publish(&mut self, snapshot: &Snapshot) -> Option<Response> {
        if self.names.is_empty() || self.sent.as_ref() == Some(&snapshot.version) {
            None
        } else {
            self.send(snapshot)
        }
    }

    /// Returns the version that the client rejected last, unless it has accepted another one since.
    pub fn rejected_version(&self) -> Option<&str> {
        self.rejected.as_deref()
    }

    fn send(&mut self, snapshot: &Snapshot) -> Option<Response> {
        self.count += 1;
        self.sent = Some(snapshot.version.clone());
        let wanted = |resource: &&Resource| self.names.contains(&resource.name);
        Some(Response {
            version: snapshot.version.clone(),
            nonce: self.count.to_string(),
            resources: snapshot.resources.iter().filter(wanted).cloned().collect(),
        })
    }
}
