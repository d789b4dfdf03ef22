use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{ModelError, Result};

/// A field by which a library computes something else than is computed here, and the values that change nothing.
pub(crate) struct Neutral {
    pub(crate) field: &'static str,
    /// How these values are told.
    pub(crate) expected: &'static str,
    pub(crate) accepts: fn(&Value) -> bool,
}

impl Neutral {
    /// Refuses another value. null is accepted, as an absent field is.
    pub(crate) fn check(&self, fields: &Map<String, Value>, file: &Path) -> Result<()> {
        // Python takes null for false.
        let null_is_neutral = !(self.accepts)(&Value::Bool(true));
        match fields.get(self.field) {
            None => Ok(()),
            Some(Value::Null) if null_is_neutral => Ok(()),
            Some(value) if (self.accepts)(value) => Ok(()),
            Some(value) => Err(ModelError::field(file, self.field, self.expected, value)),
        }
    }
}

pub(crate) fn is_false(value: &Value) -> bool {
    *value == Value::Bool(false)
}

pub(crate) fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}

/// An object or a list without content.
pub(crate) fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}
