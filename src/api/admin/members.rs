//! The members of a body, taken one by one: what is wrong or left over is told by its JSON pointer (RFC 6901).

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::problem::Problem;

/// An object of which members are taken.
#[derive(Debug)]
pub(super) struct Members {
    /// The pointer to it.
    at: String,
    left: Map<String, Value>,
}

impl Members {
    /// An empty body is an empty object.
    pub(super) fn of(body: &[u8]) -> Result<Self, Problem> {
        let read = if body.is_empty() { Ok(Map::new()) } else { serde_json::from_slice(body) };
        let left =
            read.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body is not a JSON object"))?;
        Ok(Self { at: String::new(), left })
    }

    /// A member; `rule` goes on after its pointer.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str, rule: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.left.remove(name) else { return Ok(None) };
        // serde's own text would repeat what was sent.
        serde_json::from_value(value).map(Some).map_err(|_| self.wrong(name, rule))
    }

    /// A member that is an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Problem> {
        let left = self.take(name, "is an object")?;
        Ok(left.map(|left| Self { at: self.pointer(name), left }))
    }

    /// Nothing may be left over.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.left.keys().next() {
            Some(name) => Err(self.wrong(name, "is no member that can be set here")),
            None => Ok(()),
        }
    }

    pub(super) fn wrong(&self, name: &str, rule: &str) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, format!("`{}` {rule}", self.pointer(name)))
    }

    fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.at, name.replace('~', "~0").replace('/', "~1"))
    }
}
