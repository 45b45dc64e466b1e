//! JSON Schema, by the crate `jsonschema`.

use std::{error::Error, fmt, sync::Arc};

use jsonschema::Validator;
use serde_json::Value;

use super::fault::{Fault, MAX_FAULTS, Place};

/// A JSON Schema, compiled. A clone shares it.
///
/// ```
/// use serde_json::json;
/// use tower_outbound::request_check::{RequestCheckLayer, Schema};
/// # fn main() -> Result<(), tower_outbound::request_check::SchemaError> {
/// let schema = Schema::new(&json!({"type": "object", "required": ["query"]}))?;
/// let layer = RequestCheckLayer::new().schema("/v1/search", schema);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Schema(Arc<Validator>);

impl Schema {
    /// Compiles a schema; its draft is the one that it names, else the newest.
    ///
    /// References to other documents are not followed.
    ///
    /// # Errors
    /// If it is no schema.
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        let validator = jsonschema::validator_for(schema).map_err(|error| SchemaError(error.to_string()))?;
        Ok(Self(Arc::new(validator)))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

/// What is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError(String);

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no JSON Schema: {}", self.0)
    }
}

impl Error for SchemaError {}

/// A schema for the bodies of requests whose path ends so.
#[derive(Clone, Debug)]
pub(super) struct AtPath {
    pub(super) path: String,
    pub(super) schema: Schema,
}

impl AtPath {
    /// A `/` at the end makes no difference.
    pub(super) fn is_for(&self, path: &str) -> bool {
        let (own, path) = (self.path.trim_end_matches('/'), path.trim_end_matches('/'));
        path.ends_with(own) && (!own.is_empty() || path.is_empty())
    }
}

/// Holds a body against the schemas for its path. What is no JSON has been found before.
pub(super) fn check(schemas: &[AtPath], path: &str, body: &[u8], faults: &mut Vec<Fault>) {
    let mut schemas = schemas.iter().filter(|schema| schema.is_for(path)).peekable();
    if schemas.peek().is_none() {
        return;
    }
    let body = match serde_json::from_slice::<Value>(body) {
        Ok(body) => body,
        Err(error) => {
            // JSON it is, but none that can be held against anything: a number past all bounds, half a surrogate pair.
            if faults.is_empty() {
                faults.push(Fault::new(Place::Body, error.to_string(), "values that can be read"));
            }
            return;
        }
    };
    for AtPath { schema, .. } in schemas {
        for error in schema.0.iter_errors(&body).take(MAX_FAULTS) {
            let found = shown(error.instance());
            // What is allowed, without the value that is not.
            let allowed = error.masked().to_string();
            faults.push(Fault::at(error.instance_path().as_str(), found, allowed));
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::String(text) => format!("{:?}", super::walk::shortened(text)),
        other => other.to_string(),
    }
}
