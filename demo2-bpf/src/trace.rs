//! What bpftrace printed, as values. Pure: lines in, maps and histograms out.
//!
//! bpftrace's JSON is one object a line; how each looks is in its reference guide under "JSON output". Blank
//! lines and types that are not known here are skipped: a newer bpftrace may have more.

use std::collections::BTreeMap;

use serde_json::Value;

/// The line by which a program says that all of its probes are attached.
pub const READY: &str = "READY";

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The smallest value that it counts; `None` if there is no bound.
    pub min: Option<i64>,
    /// The largest.
    pub max: Option<i64>,
    /// How many values it counts.
    pub count: u64,
}

/// Everything that a program found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Maps of numbers: by name without the `@`, then by key; a map without keys has the one key "".
    pub maps: BTreeMap<String, BTreeMap<String, i64>>,
    /// Histograms without keys, by name.
    pub histograms: BTreeMap<String, Vec<Bar>>,
    /// Events that the kernel had no room for; counts are too small then.
    pub lost: u64,
    /// How many probes bpftrace attached.
    pub probes: u64,
}

/// A line that is not what bpftrace prints.
#[derive(Debug, thiserror::Error)]
#[error("bpftrace printed something that is not understood: {line}")]
pub struct TraceParseError {
    /// The line, cut short.
    line: String,
}

impl Trace {
    /// Reads bpftrace's lines.
    ///
    /// # Errors
    /// [`TraceParseError`] for a line that is no JSON object, or whose data are not as its type says.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, TraceParseError> {
        let mut trace = Self::default();
        for line in lines.into_iter().map(str::trim).filter(|line| !line.is_empty()) {
            trace.add(line).ok_or_else(|| TraceParseError { line: line.chars().take(200).collect() })?;
        }
        Ok(trace)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let object: Value = serde_json::from_str(line).ok()?;
        let data = object.get("data");
        match object.get("type")?.as_str()? {
            "map" => {
                for (name, value) in data?.as_object()? {
                    let map = self.maps.entry(name.trim_start_matches('@').to_owned()).or_default();
                    match value {
                        Value::Object(keyed) => {
                            for (key, value) in keyed {
                                map.insert(key.clone(), value.as_i64()?);
                            }
                        }
                        value => drop(map.insert(String::new(), value.as_i64()?)),
                    }
                }
            }
            "hist" => {
                for (name, bars) in data?.as_object()? {
                    // Keyed histograms are not used by our programs.
                    if let Some(bars) = bars.as_array() {
                        let bars = bars.iter().map(bar).collect::<Option<Vec<_>>>()?;
                        self.histograms.insert(name.trim_start_matches('@').to_owned(), bars);
                    }
                }
            }
            "lost_events" => self.lost = self.lost.saturating_add(data?.get("events")?.as_u64()?),
            "attached_probes" => self.probes = data?.get("probes")?.as_u64()?,
            _ => {}
        }
        Some(())
    }

    /// A map's number for this key; 0 if it was never counted.
    pub fn of(&self, map: &str, key: &str) -> i64 {
        self.maps.get(map).and_then(|map| map.get(key)).copied().unwrap_or(0)
    }

    /// A map that has no keys.
    pub fn number(&self, map: &str) -> i64 {
        self.of(map, "")
    }

    /// How many values a histogram counts.
    pub fn counted(&self, histogram: &str) -> u64 {
        self.histograms.get(histogram).into_iter().flatten().map(|bar| bar.count).sum()
    }
}

fn bar(value: &Value) -> Option<Bar> {
    let bound = |name: &str| value.get(name).and_then(Value::as_i64);
    Some(Bar { min: bound("min"), max: bound("max"), count: value.get("count")?.as_u64()? })
}

/// Whether this line says that all probes are attached.
pub fn is_ready(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|object| {
        object["type"] == "printf" && object["data"].as_str().is_some_and(|text| text.trim() == READY)
    })
}
