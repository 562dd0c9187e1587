//! A control plane on a free loopback port, and clients that use it over gRPC.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc;
use mesh_xds::XdsVariant;
use mesh_xds::{Cache, EventLog, ResourceType, Server};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::client::{Received, read_delta, read_sotw};

/// Far more than an answer on the loopback takes.
const LIMIT: Duration = Duration::from_secs(20);

pub const VARIANTS: [XdsVariant; 2] = [XdsVariant::Sotw, XdsVariant::Delta];

/// A running control plane.
pub struct TestServer {
    pub cache: Arc<Cache>,
    pub event_log: EventLog,
    pub address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl TestServer {
    pub async fn start(cache: Cache) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), cache).await
    }

    pub async fn start_at(at: SocketAddr, cache: Cache) -> Self {
        Self::serving(at, EventLog::default(), cache).await
    }

    pub async fn start_with(event_log: EventLog, cache: Cache) -> Self {
        Self::serving((Ipv4Addr::LOCALHOST, 0).into(), event_log, cache).await
    }

    async fn serving(at: SocketAddr, event_log: EventLog, cache: Cache) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cache, stop) = (Arc::new(cache), CancellationToken::new());
        let server = Server::builder(Arc::clone(&cache), stop.clone()).event_log(event_log.clone()).build();
        let serving = tokio::spawn(async move { server.serve(listener).await.unwrap() });
        Self { cache, event_log, address, stop, serving }
    }

    /// Ends all streams and waits for the port to be free.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.serving).await.unwrap().unwrap();
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Opens an aggregated stream.
    pub async fn open(&self, variant: XdsVariant, node: &str) -> GrpcStream {
        GrpcStream::open(self.channel().await, variant, node).await
    }
}

enum Ends {
    Sotw(mpsc::UnboundedSender<DiscoveryRequest>, Streaming<DiscoveryResponse>),
    Delta(mpsc::UnboundedSender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>),
}

/// One stream of a client.
pub struct GrpcStream {
    ends: Ends,
    /// Told with the next request, which has to be the first.
    node: Option<Node>,
    names: HashMap<String, Vec<String>>,
}

impl GrpcStream {
    pub async fn open(channel: Channel, variant: XdsVariant, node: &str) -> Self {
        Self::open_as(channel, variant, Node { id: node.to_owned(), ..Node::default() }).await
    }

    pub async fn open_as(channel: Channel, variant: XdsVariant, node: Node) -> Self {
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let node = Some(node);
        let ends = match variant {
            XdsVariant::Sotw => {
                let (sender, requests) = mpsc::unbounded_channel();
                let requests = UnboundedReceiverStream::new(requests);
                Ends::Sotw(sender, client.stream_aggregated_resources(requests).await.unwrap().into_inner())
            }
            XdsVariant::Delta => {
                let (sender, requests) = mpsc::unbounded_channel();
                let requests = UnboundedReceiverStream::new(requests);
                Ends::Delta(sender, client.delta_aggregated_resources(requests).await.unwrap().into_inner())
            }
        };
        Self { ends, node, names: HashMap::new() }
    }

    /// Asks for these names; none is the wildcard.
    pub fn subscribe(&mut self, kind: ResourceType, names: &[&str]) {
        self.subscribe_url(kind.url(), names);
    }

    pub fn subscribe_url(&mut self, type_url: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.names.insert(type_url.to_owned(), names.clone());
        let (node, type_url) = (self.node.take(), type_url.to_owned());
        // A stream that the server ended accepts no requests. Its status has the reason.
        match &self.ends {
            Ends::Sotw(sender, _) => {
                _ = sender.send(DiscoveryRequest {
                    node,
                    type_url,
                    resource_names: names,
                    ..DiscoveryRequest::default()
                });
            }
            Ends::Delta(sender, _) => {
                _ = sender.send(DeltaDiscoveryRequest {
                    node,
                    type_url,
                    resource_names_subscribe: names,
                    ..DeltaDiscoveryRequest::default()
                });
            }
        }
    }

    /// Asks on a new stream, and says what an earlier one brought.
    pub fn resume(&mut self, kind: ResourceType, names: &[&str], had: &Received) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.names.insert(kind.url().to_owned(), names.clone());
        let (node, type_url) = (self.node.take(), kind.url().to_owned());
        match &self.ends {
            Ends::Sotw(sender, _) => {
                let version_info = had.version.clone();
                let request = DiscoveryRequest {
                    node,
                    type_url,
                    resource_names: names,
                    version_info,
                    ..DiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
            Ends::Delta(sender, _) => {
                let has = had.items.iter().map(|item| (item.name.clone(), item.version.clone()));
                let request = DeltaDiscoveryRequest {
                    node,
                    type_url,
                    resource_names_subscribe: names,
                    initial_resource_versions: has.collect(),
                    ..DeltaDiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
        }
    }

    pub fn ack(&self, got: &Received) {
        self.answer(got, None);
    }

    pub fn nack(&self, got: &Received, message: &str) {
        self.answer(got, Some(message));
    }

    fn answer(&self, got: &Received, complaint: Option<&str>) {
        let error_detail =
            complaint.map(|message| rpc::Status { message: message.to_owned(), ..rpc::Status::default() });
        let (type_url, response_nonce) = (got.kind.url().to_owned(), got.nonce.clone());
        match &self.ends {
            Ends::Sotw(sender, _) => {
                let version_info = if complaint.is_some() { String::new() } else { got.version.clone() };
                let resource_names = self.names.get(&type_url).cloned().unwrap_or_default();
                let request = DiscoveryRequest {
                    type_url,
                    response_nonce,
                    version_info,
                    resource_names,
                    error_detail,
                    ..DiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
            Ends::Delta(sender, _) => {
                let request = DeltaDiscoveryRequest {
                    type_url,
                    response_nonce,
                    error_detail,
                    ..DeltaDiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
        }
    }

    /// The next response, or how the stream ended.
    pub async fn receive(&mut self) -> Result<Option<Received>, Status> {
        let kind = |url: &str| ResourceType::from_url(url).unwrap();
        let next = async {
            Ok(match &mut self.ends {
                Ends::Sotw(_, responses) => {
                    responses.message().await?.map(|response| read_sotw(kind(&response.type_url), response))
                }
                Ends::Delta(_, responses) => {
                    responses.message().await?.map(|response| read_delta(kind(&response.type_url), response))
                }
            })
        };
        tokio::time::timeout(LIMIT, next).await.expect("the server sends a response or a status")
    }

    /// The next response.
    pub async fn next(&mut self) -> Received {
        self.receive().await.unwrap().expect("the stream is still open")
    }

    /// Ends the client's half; returns how the server ends the stream.
    pub async fn close(mut self) -> Result<Option<Received>, Status> {
        match &mut self.ends {
            Ends::Sotw(sender, _) => *sender = mpsc::unbounded_channel().0,
            Ends::Delta(sender, _) => *sender = mpsc::unbounded_channel().0,
        }
        self.receive().await
    }
}
