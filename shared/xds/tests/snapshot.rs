//! Every snapshot is consistent, and an error names both resources.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/topology.rs"]
mod topology;

use envoy_types::pb::envoy::config::core::v3::{ConfigSource, TransportSocket, transport_socket};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
    common_tls_context::ValidationContextType,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use mesh_xds::ResourceType::{self, Cluster, Endpoints, Route, Secret};
use mesh_xds::resource::ResourceError;
use mesh_xds::snapshot::SnapshotError;
use mesh_xds::{Resource, Snapshot, builders};
use topology::{Topology, clusters, resource, some, web};

/// What is wrong with these resources: `from -> to`.
fn missing(resources: Vec<Resource>) -> Option<String> {
    match Snapshot::new(resources) {
        Ok(_) => None,
        Err(SnapshotError::Missing { from_kind, from, to_kind, to }) => {
            Some(format!("{from_kind} {from} -> {to_kind} {to}"))
        }
        Err(error) => panic!("{error}"),
    }
}

fn listener_with(configs: Vec<Any>) -> Listener {
    let filters = configs.into_iter().map(|config| Filter {
        name: "f".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    });
    let chain = FilterChain { filters: filters.collect(), ..FilterChain::default() };
    Listener { name: "l".to_owned(), filter_chains: vec![chain], ..Listener::default() }
}

fn manager(route_specifier: RouteSpecifier) -> Any {
    pack_any(HttpConnectionManager { route_specifier: Some(route_specifier), ..Default::default() })
}

fn sds(name: &str, source: Option<ConfigSource>) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: source }
}

#[test]
fn a_complete_set_of_resources_is_a_snapshot() {
    let snapshot = Snapshot::new(web().secret("s", 1).resources()).unwrap();
    assert_eq!(snapshot.resources().count(), 5);
    assert!(Snapshot::new(Vec::<Resource>::new()).is_ok());
}

#[test]
fn duplicate_names_of_one_type_are_an_error() {
    for kind in ResourceType::ALL {
        let mut twice = some(kind, &[("a", 1)]).resources();
        twice.extend(some(kind, &[("a", 2)]).resources().into_iter().filter(|one| one.kind() == kind));
        let error = Snapshot::new(twice).unwrap_err();
        assert_eq!(error, SnapshotError::Duplicate { kind, name: "a".to_owned() });
        assert!(error.to_string().contains("'a'") && error.to_string().contains(kind.service()), "{error}");
    }
    // In different types it may: clusters and their endpoints do it all the time.
    assert!(Snapshot::new(clusters(&["a"]).route("a", 1, &["a"]).secret("a", 1).resources()).is_ok());
}

#[test]
fn the_error_names_both_resources() {
    let topology = web().without(Cluster, "be");
    let error = Snapshot::new(topology.resources()).unwrap_err().to_string();
    assert!(
        error.starts_with("route 'paths' refers to cluster 'be', which is not in the snapshot"),
        "{error}"
    );
}

#[test]
fn a_cluster_needs_endpoints_under_its_eds_service_name() {
    let alone = clusters(&["c"]).without(Endpoints, "c");
    assert_eq!(missing(alone.resources()).unwrap(), "CDS c -> EDS c");
    let mut cluster = builders::cluster("c");
    cluster.eds_cluster_config.as_mut().unwrap().service_name = "other".to_owned();
    assert_eq!(missing(vec![resource(&cluster)]).unwrap(), "CDS c -> EDS other");
    assert_eq!(missing(vec![resource(&cluster), topology::endpoints("other", 1)]), None);
    // Endpoints from a file, or a cluster without any discovery, need nothing of us.
    cluster.eds_cluster_config.as_mut().unwrap().eds_config = Some(ConfigSource::default());
    assert_eq!(missing(vec![resource(&cluster)]), None);
    cluster.cluster_discovery_type = None;
    assert_eq!(missing(vec![resource(&cluster)]), None);
}

#[test]
fn a_listener_needs_the_routes_that_it_fetches() {
    assert_eq!(missing(web().without(Route, "paths").resources()).unwrap(), "LDS web -> RDS paths");
    let api = resource(&builders::api_listener("api", "paths"));
    assert_eq!(missing(vec![api]).unwrap(), "LDS api -> RDS paths");
    let from_a_file = Rds { route_config_name: "elsewhere".to_owned(), config_source: None };
    assert_eq!(
        missing(vec![resource(&listener_with(vec![manager(RouteSpecifier::Rds(from_a_file))]))]),
        None
    );
    let mut default = listener_with(vec![]);
    let rds = Rds { route_config_name: "paths".to_owned(), config_source: Some(builders::ads()) };
    default.default_filter_chain =
        Some(listener_with(vec![manager(RouteSpecifier::Rds(rds))]).filter_chains.remove(0));
    assert_eq!(missing(vec![resource(&default)]).unwrap(), "LDS l -> RDS paths");
}

#[test]
fn a_listener_needs_the_clusters_of_the_routes_in_it() {
    let inline = manager(RouteSpecifier::RouteConfig(builders::route("inline", "be")));
    let listener = resource(&listener_with(vec![inline]));
    assert_eq!(missing(vec![listener]).unwrap(), "LDS l -> CDS be");
}

#[test]
fn a_tcp_proxy_needs_its_clusters() {
    let proxy = |specifier| {
        let proxy = TcpProxy { cluster_specifier: Some(specifier), ..TcpProxy::default() };
        missing(vec![resource(&listener_with(vec![pack_any(proxy)]))])
    };
    assert_eq!(proxy(tcp_proxy::ClusterSpecifier::Cluster("be".to_owned())).unwrap(), "LDS l -> CDS be");
    let weight = tcp_proxy::weighted_cluster::ClusterWeight { name: "w".to_owned(), ..Default::default() };
    let weighted = tcp_proxy::WeightedCluster { clusters: vec![weight] };
    assert_eq!(proxy(tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)).unwrap(), "LDS l -> CDS w");
}

#[test]
fn a_route_needs_all_clusters_that_it_names() {
    let topology = clusters(&["a"]);
    let mut resources = topology.resources();
    resources.push(resource(&builders::weighted_route("r", &[("a", 1), ("b", 0)])));
    assert_eq!(missing(resources).unwrap(), "RDS r -> CDS b");

    let mut mirrored = builders::route("r", "a");
    let Some(Action::Route(action)) = &mut mirrored.virtual_hosts[0].routes[0].action else { panic!() };
    action
        .request_mirror_policies
        .push(RequestMirrorPolicy { cluster: "shadow".to_owned(), ..RequestMirrorPolicy::default() });
    let mut resources = topology.resources();
    resources.push(resource(&mirrored));
    assert_eq!(missing(resources).unwrap(), "RDS r -> CDS shadow");
}

#[test]
fn tls_needs_the_secrets_that_it_fetches() {
    let socket = |config: Any| TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    };
    let ours = Some(builders::ads());
    let certificate = CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![sds("mine", ours.clone()), sds("a-file's", None)],
        ..CommonTlsContext::default()
    };
    let trust = CommonTlsContext {
        validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(sds(
            "ca", ours,
        ))),
        ..CommonTlsContext::default()
    };
    let mut listener = listener_with(vec![]);
    let down = DownstreamTlsContext { common_tls_context: Some(certificate), ..Default::default() };
    listener.filter_chains[0].transport_socket = Some(socket(pack_any(down)));
    assert_eq!(missing(vec![resource(&listener)]).unwrap(), "LDS l -> SDS mine");
    assert_eq!(missing(vec![resource(&listener), topology::secret("mine", 1)]), None);

    let mut cluster = builders::cluster("c");
    let up = UpstreamTlsContext { common_tls_context: Some(trust), ..Default::default() };
    cluster.transport_socket = Some(socket(pack_any(up)));
    let resources = vec![resource(&cluster), topology::endpoints("c", 1)];
    assert_eq!(missing(resources).unwrap(), "CDS c -> SDS ca");
}

#[test]
fn references_to_external_clusters_are_allowed() {
    let resources = || web().without(Cluster, "be").resources();
    assert!(Snapshot::with_external_clusters(resources(), &["be"]).is_ok());
    assert!(Snapshot::with_external_clusters(resources(), &["other"]).is_err());
    // Only clusters can be external: clients have no routes or secrets from elsewhere.
    assert!(Snapshot::with_external_clusters(web().without(Route, "paths").resources(), &["paths"]).is_err());
}

#[test]
fn an_inconsistency_gives_the_same_error_every_time() {
    let topology =
        Topology::default().route("z", 1, &["no-z"]).route("a", 1, &["no-a"]).route("m", 1, &["no-m"]);
    for _ in 0..20 {
        assert_eq!(missing(topology.resources()).unwrap(), "RDS a -> CDS no-a");
    }
}

#[test]
fn the_version_of_endpoints_changes_with_their_cluster() {
    let version = |topology: &Topology| topology.snapshot().get(Endpoints, "be").unwrap().version();
    let (one, two) = (web(), web().cluster("be", 2));
    assert_ne!(version(&one), version(&two));
    assert_eq!(version(&one), version(&one.clone().cluster("other", 1)));
    // Taken over into the next snapshot, tied to another cluster and back.
    let first = one.snapshot();
    let taken = |from: &Snapshot, edition| {
        let rest = from.resources().filter(|one| one.kind() != Cluster).cloned();
        let cluster = std::sync::Arc::new(topology::cluster("be", edition));
        Snapshot::new(rest.chain([cluster])).unwrap()
    };
    let second = taken(&first, 2);
    assert_eq!(second.get(Endpoints, "be").unwrap().version(), version(&two));
    assert_eq!(taken(&second, 1).get(Endpoints, "be").unwrap().version(), version(&one));
}

#[test]
fn changes_list_added_changed_and_removed_names() {
    let before = clusters(&["gone", "same"]).cluster("changed", 1).snapshot();
    let after = clusters(&["same", "new"]).cluster("changed", 2).snapshot();
    let changes = after.changes_since(&before);
    for kind in [Cluster, Endpoints] {
        let mut names: Vec<&str> = changes[kind].iter().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["changed", "gone", "new"], "{kind}: endpoints go with their clusters");
    }
    assert!(changes[Secret].is_empty());
}

#[test]
fn invalid_resources_are_rejected_with_the_reason() {
    let unknown = Any { type_url: "type.googleapis.com/x.Y".to_owned(), value: vec![] };
    assert!(
        matches!(Resource::from_any(&unknown), Err(ResourceError::UnknownType(url)) if url.ends_with("x.Y"))
    );
    let broken = Any { type_url: Cluster.url().to_owned(), value: vec![0xff] };
    assert!(matches!(Resource::from_any(&broken), Err(ResourceError::Undecodable { kind: Cluster, .. })));
    let nameless = builders::cluster("");
    assert!(matches!(Resource::new(&nameless), Err(ResourceError::Nameless(Cluster))));
    // What was packed by someone else is the same resource, and keeps fields that we do not know.
    let ours = topology::cluster("c", 1);
    let mut any = topology::any_of(&ours);
    assert_eq!(Resource::from_any(&any).unwrap().version(), ours.version());
    any.value.extend([0xfa, 0xff, 0x7f, 0x01, b'x']);
    let extended = Resource::from_any(&any).unwrap();
    assert_ne!(extended.version(), ours.version());
    assert_eq!(topology::any_of(&extended), any);
}

#[test]
fn debug_output_does_not_show_a_secret() {
    let text = format!("{:?}", topology::secret("s", 1));
    assert!(text.contains("SDS s @") && !text.contains(topology::SECRET_CONTENT), "{text}");
}
