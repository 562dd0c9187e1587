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

use crate::topology::{APPS, DesiredState};
use mesh_xds_server::document::Strict;

/// The longest body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long `PUT /weights` waits for the clients' answers.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The control plane and the state that it publishes.
pub struct Admin {
    control_plane: ControlPlane,
    desired_state: Option<Mutex<DesiredState>>,
}

/// A field of the request body is invalid.
struct InvalidField {
    field: String,
    reason: String,
}

impl Admin {
    /// Creates an interface to a control plane that publishes `desired_state` or, without one, the resources of files.
    pub fn new(control_plane: ControlPlane, desired_state: Option<DesiredState>) -> Self {
        Self { control_plane, desired_state: desired_state.map(Mutex::new) }
    }

    /// Shows clients what came from elsewhere than this interface.
    pub fn publish(&self, snapshot: Snapshot) {
        self.control_plane.publish(snapshot);
    }

    /// Handles one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> PageResponse {
        match (request.method(), request.uri().path()) {
            (&Method::PUT, "/weights") => match web::body(request, MAX_BODY_BYTES).await {
                Ok(body) => self.put_weights(&body).await,
                Err(error) => {
                    bad_request(&InvalidField { field: "body".to_owned(), reason: error.to_string() })
                }
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
        let Some(desired_state) = &self.desired_state else {
            let reason = "what is served comes from files: change the weights there";
            return web::json(StatusCode::CONFLICT, &json!({ "reason": reason }));
        };
        let weights = match weights(body) {
            Ok(weights) => weights,
            Err(error) => return bad_request(&error),
        };
        let published = {
            // Published under the lock, so that concurrent requests leave state and snapshot consistent.
            let mut desired_state = desired_state.lock().unwrap_or_else(PoisonError::into_inner);
            let updated = DesiredState { weights, ..desired_state.clone() };
            match updated.snapshot() {
                Ok(snapshot) => {
                    *desired_state = updated;
                    self.control_plane.publish(snapshot)
                }
                Err(error) => {
                    return bad_request(&InvalidField {
                        field: "weights".to_owned(),
                        reason: error.to_string(),
                    });
                }
            }
        };
        let accepted = self.control_plane.accepted(&published, ACCEPT_TIMEOUT).await;
        let applied: BTreeMap<&str, u32> = APPS.into_iter().zip(weights).collect();
        let mut response = json!({ "weights": applied, "accepted": accepted.is_ok() });
        if let Err(error) = accepted {
            response["reason"] = error.to_string().into();
        }
        web::json(StatusCode::OK, &response)
    }

    fn snapshot(&self) -> PageResponse {
        let Some(snapshot) = self.control_plane.cache().snapshot(EVERYONE) else {
            return text(StatusCode::NOT_FOUND, "nothing is published yet\n");
        };
        let mut resources: Vec<_> = snapshot.resources().collect();
        resources.sort_unstable_by_key(|resource| (resource.kind(), Arc::clone(resource.name())));
        let resources_json = resources.into_iter().map(|resource| {
            let references: Vec<String> =
                resource.references().iter().map(|to| format!("{} {}", to.kind, to.name)).collect();
            json!({
                "type": resource.kind().service(),
                "name": &**resource.name(),
                "version": resource.version().to_string(),
                "references": references,
            })
        });
        web::json(StatusCode::OK, &resources_json.collect())
    }

    fn clients(&self) -> PageResponse {
        web::json(StatusCode::OK, &json!(self.control_plane.event_log().clients()))
    }
}

/// Reads `{"blue":80,"green":20}`.
fn weights(body: &[u8]) -> Result<[u32; 2], InvalidField> {
    let invalid = |field: &str, reason: String| InvalidField { field: field.to_owned(), reason };
    let not_an_object = |error: &dyn Display| {
        invalid("body", format!("not a JSON object such as {{\"blue\":80,\"green\":20}}: {error}"))
    };
    // Strictly: of two weights for one app, none is what was meant.
    let Strict(fields) = serde_json::from_slice(body).map_err(|error| not_an_object(&error))?;
    let fields = fields.as_object().ok_or_else(|| not_an_object(&fields))?;
    if let Some(unknown) = fields.keys().find(|name| !APPS.contains(&name.as_str())) {
        return Err(invalid(unknown, format!("there is no such app; there are {}", APPS.join(" and "))));
    }
    let mut weights = [0; 2];
    for (weight, app) in weights.iter_mut().zip(APPS) {
        let value = fields.get(app).ok_or_else(|| invalid(app, "is missing".to_owned()))?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        *weight = number
            .filter(|number| *number <= 1_000_000)
            .ok_or_else(|| invalid(app, format!("{value} is not a whole number from 0 to 1000000")))?;
    }
    if weights == [0, 0] {
        return Err(invalid(APPS[0], "the weights add up to nothing; Envoy refuses that".to_owned()));
    }
    Ok(weights)
}

fn bad_request(error: &InvalidField) -> PageResponse {
    web::json(StatusCode::BAD_REQUEST, &json!({ "field": error.field, "reason": error.reason }))
}
