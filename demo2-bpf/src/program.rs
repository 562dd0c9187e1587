//! The bpftrace programs: one question each.

/// A program in `bpf/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Who makes a listening socket?
    Listen,
    /// Which thread accepts how many connections?
    Accept,
    /// How many connections come and go?
    States,
    /// How many bytes go in and out?
    Bytes,
    /// What do the bytes say?
    Requests,
    /// How long is a request in Envoy?
    Latency,
    /// How does the event loop turn?
    Loop,
    /// Does a thread get a core when it wants one?
    Sched,
    /// What was torn down, what was sent twice?
    Errors,
}

impl Program {
    /// All of them, in the order of the story.
    pub const ALL: [Self; 9] = [
        Self::Listen,
        Self::Accept,
        Self::States,
        Self::Bytes,
        Self::Requests,
        Self::Latency,
        Self::Loop,
        Self::Sched,
        Self::Errors,
    ];

    /// Its name, and that of its file without the ending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::States => "states",
            Self::Bytes => "bytes",
            Self::Requests => "requests",
            Self::Latency => "latency",
            Self::Loop => "loop",
            Self::Sched => "sched",
            Self::Errors => "errors",
        }
    }

    /// Its question, the title of its step.
    pub fn question(self) -> &'static str {
        match self {
            Self::Listen => "Who makes the listening sockets?",
            Self::Accept => "Which worker accepts how many connections?",
            Self::States => "How many connections come and go, and how long do they live?",
            Self::Bytes => "How many bytes go in and out?",
            Self::Requests => "What do the bytes say?",
            Self::Latency => "How long is a request in Envoy, and how long at the backend?",
            Self::Loop => "How does the event loop turn?",
            Self::Sched => "Does a worker get a core when it wants one?",
            Self::Errors => "What was torn down, and what was sent twice?",
        }
    }

    /// Its text.
    pub fn source(self) -> &'static str {
        match self {
            Self::Listen => include_str!("../bpf/listen.bt"),
            Self::Accept => include_str!("../bpf/accept.bt"),
            Self::States => include_str!("../bpf/states.bt"),
            Self::Bytes => include_str!("../bpf/bytes.bt"),
            Self::Requests => include_str!("../bpf/requests.bt"),
            Self::Latency => include_str!("../bpf/latency.bt"),
            Self::Loop => include_str!("../bpf/loop.bt"),
            Self::Sched => include_str!("../bpf/sched.bt"),
            Self::Errors => include_str!("../bpf/errors.bt"),
        }
    }

    /// A trace of it that a real run left: [`Facts`](crate::facts::Facts), and then bpftrace's own lines.
    pub fn recorded(self) -> &'static str {
        match self {
            Self::Listen => include_str!("../recorded/listen.jsonl"),
            Self::Accept => include_str!("../recorded/accept.jsonl"),
            Self::States => include_str!("../recorded/states.jsonl"),
            Self::Bytes => include_str!("../recorded/bytes.jsonl"),
            Self::Requests => include_str!("../recorded/requests.jsonl"),
            Self::Latency => include_str!("../recorded/latency.jsonl"),
            Self::Loop => include_str!("../recorded/loop.jsonl"),
            Self::Sched => include_str!("../recorded/sched.jsonl"),
            Self::Errors => include_str!("../recorded/errors.jsonl"),
        }
    }

    /// What it is told on the command line: of Envoy's process and ports, and the number of its network.
    pub fn arguments(self, pid: u32, listener_port: u16, backend_port: u16, network: u64) -> Vec<String> {
        match self {
            Self::Listen => Vec::new(),
            Self::States | Self::Errors => {
                vec![listener_port.to_string(), backend_port.to_string(), network.to_string()]
            }
            Self::Latency => {
                [pid, listener_port.into(), backend_port.into()].map(|it| it.to_string()).to_vec()
            }
            _ => vec![pid.to_string()],
        }
    }

    /// Whether it reads the kernel's structs, and needs to know what they look like.
    pub fn needs_btf(self) -> bool {
        self.source().contains("(struct ")
    }

    /// The tracepoints that it needs, `group:name`.
    pub fn tracepoints(self) -> Vec<&'static str> {
        let words = self.source().split([',', '\n', ' ']);
        words.filter_map(|word| word.strip_prefix("tracepoint:")).collect()
    }
}
