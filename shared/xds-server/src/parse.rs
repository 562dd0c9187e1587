//! From a file's text to resources.
//!
//! The names of fields and messages are those of Envoy's API, whose description is compiled in; a message in an
//! `Any` may be any that Envoy 1.3x knows, whether this control plane looks into it or not. Does not know which
//! resources refer to which, nor what other files hold.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use envoy_types::pb::google::protobuf::Any;
use mesh_xds::resource::Resource;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

use crate::error::FilesError;
use crate::{canonical, document, error_text};

/// Envoy's API as `build.rs` found it.
static API: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));
    DescriptorPool::decode(bytes.as_slice()).map_err(|error| error.to_string())
});

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Arc<Resource>>, FilesError> {
    let broken =
        |field_path: String, why: String| FilesError::Invalid { path: path.to_owned(), field_path, why };
    let json = path.extension().is_some_and(|ending| ending == "json");
    let resources = document::resources(text, json).map_err(|why| broken(String::new(), why))?;
    resources
        .into_iter()
        .enumerate()
        .map(|(number, value)| {
            let field_path = format!("resources[{number}]");
            let at = |inner: &str| match inner {
                "" => format!("{field_path}: "),
                inner if inner.starts_with('[') => format!("{field_path}{inner}: "),
                inner => format!("{field_path}.{inner}: "),
            };
            let any = any(value).map_err(|(inner, why)| broken(at(&inner), why))?;
            let resource = Resource::from_any(&any).map_err(|error| broken(at(""), error.to_string()))?;
            Ok(Arc::new(resource))
        })
        .collect()
}

/// The packed form of a resource. An error comes with the path in the resource.
fn any(mut value: Value) -> Result<Any, (String, String)> {
    let whole = |why: &str| (String::new(), why.to_owned());
    let api = API.as_ref().map_err(|error| whole(error))?;
    let kind = value.as_object_mut().and_then(|fields| fields.remove("@type"));
    let Some(Value::String(type_url)) = kind else {
        return Err(whole("no \"@type\": it says which message of Envoy's API this is"));
    };
    let name = type_url.rsplit('/').next().unwrap_or_default();
    let message = api.get_message_by_name(name).ok_or_else(|| {
        (
            "@type".to_owned(),
            error_text::without_values(&format!("'{type_url}' is no message of Envoy's API")),
        )
    })?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let message = DynamicMessage::deserialize(message, tracked).map_err(|error| error.to_string());
    let message = message.map_err(|why| {
        let field_path = error_text::field_path(&track.path());
        let secret = error_text::is_secret(name, &field_path);
        (
            field_path,
            if secret { error_text::without_secrets(&why) } else { error_text::without_values(&why) },
        )
    })?;
    Ok(Any { value: canonical::encode(message), type_url })
}
