//! Who may do what: Cedar policies over principal, role, method, path, and what Envoy's route adds.
//!
//! ```text
//! *.cedar ──parse, each with its place──> checked against the schema ──> Policies
//! (who, method, path, extensions) ──permit?──> Verdict, with the policies that decided
//! ```
//!
//! What nothing permits is refused; a forbid outweighs every permit. A [`Policies`] that exists fits the schema, so a
//! misspelt attribute is an error of its file and not a rule that never applies. Knows nothing of tokens and files.
//!
//! Source: <https://docs.cedarpolicy.com>.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;

/// What policies may ask about.
pub const SCHEMA: &str = include_str!("../policies/schema.cedarschema");

/// The names of the schema, read once.
static ENTITY_TYPES: LazyLock<EntityTypes> = LazyLock::new(|| {
    let name = |text: &str| text.parse::<EntityTypeName>().expect("a plain word is a type's name");
    EntityTypes {
        user: name("User"),
        workload: name("Workload"),
        role: name("Role"),
        path: name("Path"),
        call: EntityUid::from_type_name_and_id(name("Action"), EntityId::new("call")),
    }
});

struct EntityTypes {
    user: EntityTypeName,
    workload: EntityTypeName,
    role: EntityTypeName,
    path: EntityTypeName,
    call: EntityUid,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Whom a token names, and its roles.
    User {
        /// The name.
        name: String,
        /// The roles.
        roles: Vec<String>,
    },
    /// Whom a client certificate names.
    Workload {
        /// The SPIFFE ID.
        id: String,
    },
}

impl Principal {
    /// The name, as logs and backends see it.
    pub fn name(&self) -> &str {
        match self {
            Self::User { name, .. } => name,
            Self::Workload { id } => id,
        }
    }

    /// The roles; a workload has none.
    pub fn roles(&self) -> &[String] {
        match self {
            Self::User { roles, .. } => roles,
            Self::Workload { .. } => &[],
        }
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// Whether it is a gRPC call.
    pub grpc: bool,
    /// What Envoy's route adds.
    pub extensions: &'a [(&'a str, &'a str)],
}

/// The result of the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDecision {
    /// Whether it may be.
    pub permitted: bool,
    /// The policies that decided: those that permit it, or those that forbid it; none if nothing permits it.
    pub policies: Vec<String>,
    /// What could not be evaluated. A forbid may be among them, so this must be a no.
    pub error: Option<String>,
}

/// Policies that fit the schema.
pub struct Policies {
    set: PolicySet,
    authorizer: Authorizer,
}

/// A policy file that is not to be used, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// The line, from 1 on.
    pub line: usize,
    /// The column, from 1 on.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl Policies {
    /// Reads policies from texts by the names of their files.
    ///
    /// # Errors
    /// [`PolicyError`], the first one.
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Self, PolicyError> {
        let mut set = PolicySet::new();
        let validator = Validator::new(schema());
        for (file, text) in files {
            let at = |error: &dyn Diagnostic, message: &str| PolicyError::new(file, text, error, message);
            let parsed: PolicySet =
                text.parse().map_err(|errors: cedar_policy::ParseErrors| at(&errors, &errors.to_string()))?;
            if parsed.templates().next().is_some() {
                return Err(PolicyError::at_start(file, "templates are not used here"));
            }
            let mut file_policies = PolicySet::new();
            for policy in parsed.policies() {
                let Some(id) = policy.annotation("id") else {
                    let message = "each policy needs a name for the decision log: @id(\"…\") before it";
                    return Err(PolicyError::at_start(file, message));
                };
                let policy = policy.new_id(PolicyId::new(id));
                let duplicate_id = |_| PolicyError::at_start(file, &format!("the id {id:?} stands twice"));
                file_policies.add(policy.clone()).map_err(duplicate_id)?;
                set.add(policy).map_err(duplicate_id)?;
            }
            let validation = validator.validate(&file_policies, ValidationMode::Strict);
            // A warning is, for instance, a policy that can never apply: nobody means to write that.
            if let Some(error) = validation.validation_errors().next() {
                return Err(at(error, &error.to_string()));
            }
            if let Some(warning) = validation.validation_warnings().next() {
                return Err(at(warning, &warning.to_string()));
            }
        }
        Ok(Self { set, authorizer: Authorizer::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.set.num_of_policies()
    }

    /// Whether there is none, so that nothing is permitted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Evaluates the policies for one request.
    pub fn evaluate(&self, principal: &Principal, action: &Action<'_>) -> PolicyDecision {
        let cedar_request = cedar_request(principal, action);
        let (request, entities) = match cedar_request {
            Ok(cedar_request) => cedar_request,
            Err(message) => {
                return PolicyDecision { permitted: false, policies: Vec::new(), error: Some(message) };
            }
        };
        let response = self.authorizer.is_authorized(&request, &self.set, &entities);
        let diagnostics = response.diagnostics();
        let error = diagnostics.errors().next().map(ToString::to_string);
        let mut policies: Vec<String> =
            diagnostics.reason().map(|id| AsRef::<str>::as_ref(id).to_owned()).collect();
        policies.sort_unstable();
        PolicyDecision {
            permitted: response.decision() == Decision::Allow && error.is_none(),
            policies,
            error,
        }
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("policies", &self.len()).finish_non_exhaustive()
    }
}

impl PolicyError {
    fn new(file: &str, text: &str, error: &dyn Diagnostic, message: &str) -> Self {
        let offset = error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&one| one != '\n').count() + 1;
        let help = error.help().map(|help| format!(" ({help})")).unwrap_or_default();
        Self { file: file.to_owned(), line, column, message: format!("{message}{help}") }
    }

    fn at_start(file: &str, message: &str) -> Self {
        Self { file: file.to_owned(), line: 1, column: 1, message: message.to_owned() }
    }
}

fn schema() -> Schema {
    let (schema, _) =
        Schema::from_cedarschema_str(SCHEMA).expect("the schema is compiled in, and a test reads it");
    schema
}

/// The question in Cedar's terms.
fn cedar_request(principal: &Principal, action: &Action<'_>) -> Result<(Request, Entities), String> {
    let text = |error: &dyn fmt::Display| error.to_string();
    let kind = match principal {
        Principal::User { .. } => &ENTITY_TYPES.user,
        Principal::Workload { .. } => &ENTITY_TYPES.workload,
    };
    let principal_uid = uid(kind, principal.name());
    let roles: HashSet<EntityUid> =
        principal.roles().iter().map(|role| uid(&ENTITY_TYPES.role, role)).collect();
    let resource_uid = uid(&ENTITY_TYPES.path, action.path);
    let string = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let path = Entity::new_with_tags(
        resource_uid.clone(),
        [("path".to_owned(), string(action.path))],
        [],
        action.extensions.iter().map(|(name, value)| ((*name).to_owned(), string(value))),
    );
    let entities = [Entity::new_no_attrs(principal_uid.clone(), roles), path.map_err(|error| text(&error))?];
    let entities = Entities::from_entities(entities, None).map_err(|error| text(&error))?;
    let context = Context::from_pairs([
        ("method".to_owned(), string(action.method)),
        ("grpc".to_owned(), RestrictedExpression::new_bool(action.grpc)),
    ]);
    let context = context.map_err(|error| text(&error))?;
    // Not checked against the schema again: it is this function that fits it, which tests hold it to.
    let request = Request::new(principal_uid, ENTITY_TYPES.call.clone(), resource_uid, context, None)
        .map_err(|error| text(&error))?;
    Ok((request, entities))
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    #[test]
    fn requests_conform_to_the_schema() {
        let schema = schema();
        for principal in [
            Principal::User { name: "ana".into(), roles: vec!["reader".into()] },
            Principal::Workload { id: "spiffe://demo5.example/x".into() },
        ] {
            let action =
                Action { method: "GET", path: "/x", grpc: false, extensions: &[("clearance", "admin")] };
            let (request, entities) = cedar_request(&principal, &action).unwrap();
            let context = request.context().unwrap().clone();
            let (principal_uid, call, resource_uid) =
                (request.principal(), request.action(), request.resource());
            let validated = Request::new(
                principal_uid.unwrap().clone(),
                call.unwrap().clone(),
                resource_uid.unwrap().clone(),
                context,
                Some(&schema),
            );
            validated.unwrap();
            Entities::from_entities(entities.iter().cloned(), Some(&schema)).unwrap();
        }
    }
}
