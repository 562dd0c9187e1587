//! The Grafana dashboard, read: which panels it has, and what they ask Prometheus. Pure.
//!
//! For whoever holds it to the truth without a Grafana: the pictures of the README are drawn by the very expressions that
//! Grafana would send, and a test asks a live Prometheus each of them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::prometheus::Series;

/// The dashboard as Grafana is given it.
pub const JSON: &str = include_str!("../grafana/dashboards/mesh.json");

/// What of a dashboard asks for data.
#[derive(Clone, Debug, Deserialize)]
pub struct Dashboard {
    /// Its lasting name.
    pub uid: String,
    /// Panels, and rows that only group them.
    pub panels: Vec<Panel>,
    templating: List<Variable>,
    annotations: List<Annotation>,
}

#[derive(Clone, Debug, Deserialize)]
struct List<T> {
    list: Vec<T>,
}

/// Where a query goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Source {
    /// The kind of the data source.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its lasting name, as it is provisioned.
    pub uid: String,
}

/// One panel.
#[derive(Clone, Debug, Deserialize)]
pub struct Panel {
    /// Its kind: `timeseries`, `row`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its title.
    pub title: String,
    /// What it means, for people.
    #[serde(default)]
    pub description: String,
    /// Where its queries go.
    pub datasource: Option<Source>,
    /// Its queries.
    #[serde(default)]
    pub targets: Vec<Target>,
    #[serde(default, rename = "fieldConfig")]
    field_config: FieldConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct FieldConfig {
    defaults: Defaults,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Defaults {
    #[serde(default)]
    unit: String,
}

/// One query of a panel.
#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// The PromQL, with Grafana's variables in it.
    pub expr: String,
    /// How its series are called, with labels in double braces.
    #[serde(rename = "legendFormat")]
    pub legend: String,
    /// Where it goes.
    pub datasource: Source,
}

/// A variable that people choose a value for.
#[derive(Clone, Debug, Deserialize)]
pub struct Variable {
    /// Its name, without the dollar.
    pub name: String,
    /// Where its query goes.
    pub datasource: Source,
    /// What Grafana asks for its values: `label_values(SELECTOR, LABEL)`.
    pub query: String,
}

/// What is marked in all panels.
#[derive(Clone, Debug, Deserialize)]
pub struct Annotation {
    /// Its name.
    pub name: String,
    /// Where its query goes.
    pub datasource: Source,
    /// The PromQL; a mark is where it has a value.
    pub expr: String,
}

impl Dashboard {
    /// Our dashboard.
    ///
    /// # Errors
    /// If the file is not what this module takes it for.
    pub fn load_embedded() -> serde_json::Result<Self> {
        serde_json::from_str(JSON)
    }

    /// Its variables, in the order in which they depend on each other.
    pub fn variables(&self) -> &[Variable] {
        &self.templating.list
    }

    /// Its annotations.
    pub fn annotations(&self) -> &[Annotation] {
        &self.annotations.list
    }
}

impl Panel {
    /// The unit of its values, as Grafana calls it: `ms`, `reqps`, `percentunit`.
    pub fn unit(&self) -> &str {
        &self.field_config.defaults.unit
    }
}

/// An expression with the variables' values in the places of their names, as Grafana fills them in before it asks.
pub fn substitute(expression: &str, values: &BTreeMap<String, String>, window: &str) -> String {
    let filled = expression.replace("$__rate_interval", window);
    values.iter().fold(filled, |filled, (name, value)| filled.replace(&format!("${name}"), value))
}

/// How a series is called.
pub fn legend(format: &str, series: &Series) -> String {
    let called = series
        .labels
        .iter()
        .fold(format.to_owned(), |called, (label, value)| called.replace(&format!("{{{{{label}}}}}"), value));
    // A label that this series does not have.
    let mut rest = called.as_str();
    let mut whole = String::new();
    while let Some((before, after)) = rest.split_once("{{") {
        whole += before;
        rest = after.split_once("}}").map_or("", |(_, after)| after);
    }
    (whole + rest).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_labels_are_substituted_like_grafana_does() {
        let values = BTreeMap::from([("source".to_owned(), "a|front".to_owned())]);
        let filled = substitute(r#"rate(x{i=~"$source"}[$__rate_interval])"#, &values, "4s");
        assert_eq!(filled, r#"rate(x{i=~"a|front"}[4s])"#);
        let labels = BTreeMap::from([("instance".to_owned(), "a".to_owned())]);
        let series = Series { labels, points: Vec::new() };
        assert_eq!(legend("{{instance}} of {{job}}, p99", &series), "a of , p99");
        assert_eq!(legend("{{instance}} {{job", &series), "a");
        assert_eq!(legend("{{instance}}", &series), "a");
    }
}
