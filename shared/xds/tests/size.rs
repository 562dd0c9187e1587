//! Large responses: delta responses are split, state-of-the-world responses are reported.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/client.rs"]
mod client;
#[path = "common/test_server.rs"]
mod test_server;
#[path = "common/topology.rs"]
mod topology;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Received};
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{GenericSecret, Secret, secret::Type};
use mesh_xds::ResourceType::{self, Endpoints};
use mesh_xds::cache::EVERYONE;
use mesh_xds::event_log::EventKind;
use mesh_xds::{Cache, Resource, Snapshot, XdsVariant};
use test_server::TestServer;

const LIMIT: Duration = Duration::from_secs(20);
const MEGABYTE: usize = 1_000_000;
const MESSAGE: usize = 3 * MEGABYTE;

fn secret(name: &str, size: usize, fill: &str) -> Resource {
    let specifier = Some(Specifier::InlineString(fill.repeat(size)));
    let content = DataSource { specifier, ..DataSource::default() };
    let generic = GenericSecret { secret: Some(content), ..GenericSecret::default() };
    topology::resource(&Secret { name: name.to_owned(), r#type: Some(Type::GenericSecret(generic)) })
}

fn secrets(sizes: &[(&str, usize)], fill: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot::new(sizes.iter().map(|(name, size)| secret(name, *size, fill))).unwrap())
}

/// The size of a response, a little less than on the wire.
fn size(got: &Received) -> usize {
    let items: usize = got.items.iter().map(|item| item.any.value.len() + item.name.len()).sum();
    items + got.removed.iter().map(String::len).sum::<usize>()
}

#[test]
fn a_large_delta_response_is_split_and_arrives_complete() {
    let sizes = [("a", 2 * MEGABYTE), ("b", 2 * MEGABYTE), ("c", 5 * MEGABYTE), ("d", 10), ("e", MEGABYTE)];
    let mut client = Client::new(XdsVariant::Delta);
    let check = |client: &Client, got: &[Received], snapshot: &Snapshot| {
        for response in got {
            let is_alone = response.items.len() == 1 && response.removed.is_empty();
            assert!(size(response) < MESSAGE || is_alone, "{response} has {} B", size(response));
        }
        assert!(snapshot.resources().all(|resource| client.has(resource)));
    };
    let first = secrets(&sizes, "x");
    client.publish_snapshot(Arc::clone(&first));
    let got = client.subscribe(ResourceType::Secret, &[]);
    let got = client.ack_all(got);
    assert!(got.len() >= 4, "{} messages", got.len());
    check(&client, &got, &first);
    // A push is split too. Each message waits for the answer to the one before.
    let second = secrets(&sizes, "y");
    let got = client.publish_snapshot(Arc::clone(&second));
    assert_eq!(got.len(), 1);
    let got = client.ack_all(got);
    check(&client, &got, &second);
}

#[test]
fn many_removed_names_are_split_too() {
    let name = |number: usize| format!("{number:0200}");
    let names: Vec<String> = (0..20_000).map(name).collect();
    let mut client = Client::new(XdsVariant::Delta);
    client.publish_snapshot(Arc::new(Snapshot::default()));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let got = client.subscribe(Endpoints, &names);
    let got = client.ack_all(got);
    assert!(got.iter().all(|response| size(response) < MESSAGE));
    assert_eq!(got.iter().map(|response| response.removed.len()).sum::<usize>(), names.len());
}

#[tokio::test]
async fn a_large_state_of_the_world_response_is_reported_once_with_its_largest_resources() {
    let server = TestServer::start(Cache::default()).await;
    let sizes = [("a", 2 * MEGABYTE), ("b", 3 * MEGABYTE), ("c", 10), ("d", MEGABYTE)];
    server.cache.set(EVERYONE, secrets(&sizes, "x"));
    let is_sent = |event: &mesh_xds::event_log::Event| matches!(event.kind, EventKind::Response { .. });
    for _ in 0..2 {
        let mark = server.event_log.mark();
        let mut stream = server.open(XdsVariant::Sotw, "n").await;
        stream.subscribe(ResourceType::Secret, &[]);
        tokio::time::timeout(LIMIT, server.event_log.wait_for(mark, is_sent)).await.unwrap();
        // The response was sent; this client does not accept messages of that size.
        assert!(stream.receive().await.is_err());
    }
    let events = server.event_log.events();
    let reports: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::LargeResponse { bytes, largest, .. } => Some((bytes, largest)),
            _ => None,
        })
        .collect();
    let [(bytes, largest)] = reports.as_slice() else { panic!("{reports:?}") };
    assert!(**bytes > 6 * MEGABYTE);
    let names: Vec<&str> = largest.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["b", "a", "d"]);
    assert!(largest.iter().zip([3, 2, 1]).all(|((_, size), megabytes)| *size >= megabytes * MEGABYTE));
    server.stop().await;
}
