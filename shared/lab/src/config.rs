//! An Envoy with a configuration that a student wrote: what is wrong with it is said at its place.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CheckContext, Requirement};
use shared::envoy::{Envoy, EnvoyError, Serving};

/// How long an Envoy may take that waits for nobody.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of Envoy's own words is shown, in characters.
const MAX_MESSAGE_CHARS: usize = 700;

impl CheckContext {
    /// A file as YAML, with each `${NAME}` filled in.
    ///
    /// # Errors
    /// A [`Requirement`] with the place, if it does not parse.
    pub fn yaml(&self, file: &str, values: &[(&str, String)]) -> Result<Value, Requirement> {
        let text = self.render(file, values)?;
        serde_saphyr::from_str(&text).map_err(|error| {
            Requirement::unmet(
                format!("{file} is YAML"),
                "a YAML document",
                format!("{file}: {}", error.without_snippet()),
                "Mind the indentation: what belongs together begins in the same column.",
            )
        })
    }

    /// Starts Envoy with a student's bootstrap, and waits until it serves. Its admin interface is ours to place.
    ///
    /// # Errors
    /// A [`Requirement`] with Envoy's words if it refuses the configuration.
    pub async fn envoy(&self, file: &str, values: &[(&str, String)]) -> anyhow::Result<Serving> {
        let mut config = self.yaml(file, values)?;
        let what = format!("Envoy accepts {file}");
        let Some(fields) = config.as_object_mut() else {
            let advice = "At its top stand fields such as `static_resources:`.";
            let seen = format!("{file} is one value");
            return Err(Requirement::unmet(what, "a bootstrap", seen, advice).into());
        };
        let admin = json!({ "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } });
        fields.insert("admin".to_owned(), admin);
        let program = self.envoy_program().await?;
        let started = Envoy::new(&program, config.to_string()).start(&self.life).await?;
        match started.ready(READY_TIMEOUT).await {
            Ok(envoy) => Ok(envoy),
            Err(EnvoyError::ExitedEarly { log, .. }) => {
                let seen = format!("Envoy refuses {file}: {}", envoy_error_summary(&log));
                let advice = "The path before the reason says where in the file it is.";
                Err(Requirement::unmet(what, "a configuration that Envoy runs with", seen, advice).into())
            }
            Err(EnvoyError::NotReady { log, .. }) => {
                let seen = format!(
                    "Envoy was not ready after {READY_TIMEOUT:?}; its log ends with: {}",
                    envoy_error_summary(&log)
                );
                let advice = "Does something in it wait for a server that is not there?";
                Err(Requirement::unmet(what, "an Envoy that gets ready", seen, advice).into())
            }
            Err(other) => Err(other.into()),
        }
    }
}

/// What Envoy says against a configuration, in its log or in a NACK, without the configuration itself, of which its
/// message is full.
pub fn envoy_error_summary(log: &str) -> String {
    let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    // "… (type X reason Y: invalid JSON in X @ PATH: message M, near 1:46 (offset 45): no such field: 'f') has …"
    let unknown = last.split_once(" @ ").and_then(|(_, rest)| {
        let (path, rest) = rest.split_once(':')?;
        let (_, why) = rest.split_once("): ")?;
        Some(format!("{path}: {}", why.trim().trim_end_matches(" has unknown fields").trim_end_matches(')')))
    });
    // "… (AValidationError.Field: embedded … | caused by BValidationError.Other[0]: … : why)"
    let constraint = last.contains("ValidationError.").then(|| {
        let steps: Vec<_> = last.split("ValidationError.").skip(1).collect();
        let path: Vec<_> = steps.iter().filter_map(|step| step.split(':').next()).collect();
        let why = steps.last().and_then(|step| step.split_once(": ")).map_or("", |(_, why)| why);
        format!("{}: {}", path.join("."), why.trim().trim_end_matches(')'))
    });
    let said = unknown.or(constraint).unwrap_or_else(|| last.trim_start_matches(": ").to_owned());
    said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The last lines of what Envoy 1.40 logged.
    const UNKNOWN: &str = "    lb_polcy: X '\nProtobuf message (type envoy.config.bootstrap.v3.Bootstrap reason \
        INVALID_ARGUMENT: invalid JSON in envoy.config.bootstrap.v3.Bootstrap  @ static_resources.clusters[0]: \
        message   envoy.config.cluster.v3.Cluster, near  1:46 (offset  45):   no such field: 'lb_polcy') has unknown \
        fields";
    const CONSTRAINT: &str = "}\n: Proto constraint validation failed (BootstrapValidationError.StaticResources: \
        embedded message failed validation | caused by StaticResourcesValidationError.Clusters[0]: embedded message \
        failed validation | caused by ClusterValidationError.ConnectTimeout: value must be greater than 0s)";

    #[test]
    fn envoys_words_are_a_path_and_a_reason() {
        assert_eq!(envoy_error_summary(UNKNOWN), "static_resources.clusters[0]: no such field: 'lb_polcy'");
        assert_eq!(
            envoy_error_summary(CONSTRAINT),
            "StaticResources.Clusters[0].ConnectTimeout: value must be greater than 0s"
        );
        assert_eq!(envoy_error_summary("one\ntwo"), "two");
    }
}
