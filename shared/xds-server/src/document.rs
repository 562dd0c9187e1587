//! One file's text, as a list of resources that nobody has looked into yet.
//!
//! YAML, or JSON where the file's name says so: there a comma too many is a mistake, as it is for everybody else who
//! reads the file. A key that stands twice is a mistake in both; most readers would take the last one in silence.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{Error, UserMessageFormatter};

use super::error_text;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Envoy's own files may have it. A version here is a hash of what it names.
    #[serde(default, rename = "version_info")]
    _version_info: Option<Strict>,
    resources: Vec<Strict>,
}

/// The resources in `text`. An error says what is wrong, with line and column where they are known.
pub fn resources(text: &str, json: bool) -> Result<Vec<Value>, String> {
    let document: Document = if json {
        serde_json::from_str(text).map_err(|error| error_text::without_values(&error.to_string()))?
    } else {
        serde_saphyr::from_str(text).map_err(|error| parse_error_text(error.without_snippet()))?
    };
    Ok(document.resources.into_iter().map(|Strict(value)| value).collect())
}

/// What the parser says, without its advice to programmers.
fn parse_error_text(error: &Error) -> String {
    let field_path = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
    let field_path = field_path.unwrap_or_default();
    match error {
        Error::MultipleDocuments { .. } => format!("a second document{field_path}: one document a file"),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map(|key| format!(" '{key}'")).unwrap_or_default();
            error_text::without_values(&format!("the key{key} stands twice{field_path}"))
        }
        other => error_text::without_values(&other.render_with_formatter(&UserMessageFormatter)),
    }
}

/// A JSON value in which no key stands twice.
#[derive(Debug)]
pub struct Strict(pub Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key '{key}' stands twice")));
            }
            let Strict(value) = map.next_value()?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
