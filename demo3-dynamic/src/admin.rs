//! Driving the control plane with curl: an HTTP interface for people.
//!
//! ```text
//! PUT  /weights    {"blue":80,"green":20}   shift traffic; answers once Envoy accepted it, or after five
//!                                           seconds with what was seen instead
//! GET  /snapshot   what clients are shown: types, names, versions
//! GET  /xds-log   what was said, a JSON object a line
//! GET  /clients    who is connected, and how each stands
//! GET  /metrics    what the control plane counts, for Prometheus
//! POST /rollback   back to the last snapshot that all clients accepted
//! ```
//!
//! Wrong input is answered with 400, the field and the reason, and changes nothing. There is no access
//! control, so it listens on loopback unless told otherwise.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use mesh_xds::ControlPlane;
use mesh_xds::cache::EVERYONE;
use mesh_xds::event_log::EventFormat;
use mesh_xds::metrics;
use mesh_xds::snapshot::Snapshot;
use serde_json::json;
use shared::web::{self, PageResponse, text};

use crate::topology::{APPS, World};
use mesh_xds_server::document::Strict;

/// The longest body that is read.
const BODY_LIMIT: usize = 64 * 1024;

/// How long `PUT /weights` waits for the clients' answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The control plane and the world that it shows.
pub struct Admin {
    control_plane: ControlPlane,
    world: Option<Mutex<World>>,
}

/// A request that asks for something impossible.
struct Wrong {
    field: String,
    reason: String,
}

impl Admin {
    /// An interface to a control plane that shows `world`, or, without one, what files hold.
    pub fn new(control_plane: ControlPlane, world: Option<World>) -> Self {
        Self { control_plane, world: world.map(Mutex::new) }
    }

    /// Shows clients what came from elsewhere than this interface.
    pub fn publish(&self, snapshot: Snapshot) {
        self.control_plane.publish(snapshot);
    }

    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> PageResponse {
        match (request.method(), request.uri().path()) {
            (&Method::PUT, "/weights") => match web::body(request, BODY_LIMIT).await {
                Ok(body) => self.put_weights(&body).await,
                Err(error) => wrong(&Wrong { field: "body".to_owned(), reason: error.to_string() }),
            },
            (&Method::GET, "/snapshot") => self.snapshot(),
            (&Method::GET, "/xds-log") => {
                let events = self.control_plane.event_log().events();
                text(
                    StatusCode::OK,
                    events.iter().map(|event| EventFormat::Json.line(event) + "\n").collect::<String>(),
                )
            }
            (&Method::GET, "/clients") => self.clients(),
            (&Method::GET, "/metrics") => web::metrics(metrics::text(self.control_plane.registry())),
            (&Method::POST, "/rollback") => match self.control_plane.cache().roll_back(EVERYONE) {
                Ok(seq) => web::json(StatusCode::OK, &json!({ "published": seq })),
                Err(error) => web::json(StatusCode::CONFLICT, &json!({ "reason": error.to_string() })),
            },
            (_, "/weights" | "/snapshot" | "/xds-log" | "/clients" | "/metrics" | "/rollback") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "PUT /weights, POST /rollback, GET the others\n")
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there is PUT /weights, GET /snapshot, GET /xds-log, GET /clients, GET /metrics, POST /rollback\n",
            ),
        }
    }

    async fn put_weights(&self, body: &[u8]) -> PageResponse {
        let Some(world) = &self.world else {
            let reason = "what is served comes from files: change the weights there";
            return web::json(StatusCode::CONFLICT, &json!({ "reason": reason }));
        };
        let weights = match weights(body) {
            Ok(weights) => weights,
            Err(error) => return wrong(&error),
        };
        let published = {
            // Published under the lock, so that two who shift at once leave world and snapshot the same.
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = World { weights, ..world.clone() };
            match changed.snapshot() {
                Ok(snapshot) => {
                    *world = changed;
                    self.control_plane.publish(snapshot)
                }
                Err(error) => {
                    return wrong(&Wrong { field: "weights".to_owned(), reason: error.to_string() });
                }
            }
        };
        let accepted = self.control_plane.accepted(&published, ANSWER_LIMIT).await;
        let shown: BTreeMap<&str, u32> = APPS.into_iter().zip(weights).collect();
        let mut answer = json!({ "weights": shown, "accepted": accepted.is_ok() });
        if let Err(why) = accepted {
            answer["why"] = why.to_string().into();
        }
        web::json(StatusCode::OK, &answer)
    }

    fn snapshot(&self) -> PageResponse {
        let Some(snapshot) = self.control_plane.cache().snapshot(EVERYONE) else {
            return text(StatusCode::NOT_FOUND, "nothing is published yet\n");
        };
        let mut resources: Vec<_> = snapshot.resources().collect();
        resources.sort_unstable_by_key(|resource| (resource.kind(), Arc::clone(resource.name())));
        let described = resources.into_iter().map(|resource| {
            let references: Vec<String> =
                resource.references().iter().map(|to| format!("{} {}", to.kind, to.name)).collect();
            json!({
                "type": resource.kind().service(),
                "name": &**resource.name(),
                "version": resource.version().to_string(),
                "references": references,
            })
        });
        web::json(StatusCode::OK, &described.collect())
    }

    fn clients(&self) -> PageResponse {
        web::json(StatusCode::OK, &json!(self.control_plane.event_log().clients()))
    }
}

/// Reads `{"blue":80,"green":20}`.
fn weights(body: &[u8]) -> Result<[u32; 2], Wrong> {
    let wrong = |field: &str, reason: String| Wrong { field: field.to_owned(), reason };
    let no_object = |why: &dyn Display| {
        wrong("body", format!("not a JSON object such as {{\"blue\":80,\"green\":20}}: {why}"))
    };
    // Strictly: of two weights for one app, none is what was meant.
    let Strict(given) = serde_json::from_slice(body).map_err(|error| no_object(&error))?;
    let given = given.as_object().ok_or_else(|| no_object(&given))?;
    if let Some(stranger) = given.keys().find(|name| !APPS.contains(&name.as_str())) {
        return Err(wrong(stranger, format!("there is no such app; there are {}", APPS.join(" and "))));
    }
    let mut weights = [0; 2];
    for (weight, app) in weights.iter_mut().zip(APPS) {
        let value = given.get(app).ok_or_else(|| wrong(app, "is missing".to_owned()))?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        *weight = number
            .filter(|number| *number <= 1_000_000)
            .ok_or_else(|| wrong(app, format!("{value} is not a whole number from 0 to 1000000")))?;
    }
    if weights == [0, 0] {
        return Err(wrong(APPS[0], "the weights add up to nothing; Envoy refuses that".to_owned()));
    }
    Ok(weights)
}

fn wrong(error: &Wrong) -> PageResponse {
    web::json(StatusCode::BAD_REQUEST, &json!({ "field": error.field, "reason": error.reason }))
}
