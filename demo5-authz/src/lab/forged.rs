//! Exercise 4: what a backend is told about a caller is the authorizer's word, and what the authorizer is told about
//! a route is Envoy's.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_lab::CheckContext;

use super::environment::{TestAuthorizer, listener, policies, start_envoy, status_text};
use crate::backend::Backend;
use crate::client::{CallError, CallResult, Caller};
use crate::decision::{PRINCIPAL_HEADER, ROLES_HEADER};
use crate::policy::Policies;

const FILE: &str = "envoy.yaml";

/// What some backends take for [`PRINCIPAL_HEADER`].
const UNDERSCORES: &str = "x_auth_principal";

pub(super) async fn check(context: &mut CheckContext) -> anyhow::Result<()> {
    let backend = Backend::start(listener().await?, &context.life);
    let authorizer = TestAuthorizer::start(Policies::parse(&policies())?, &context.life).await?;
    let values = [
        ("AUTHZ", authorizer.server.address().port().to_string()),
        ("BACKEND", backend.address().port().to_string()),
    ];
    let (_envoy, caller) = start_envoy(context, FILE, &values).await?;
    let [reader, forged, admin] =
        <[String; 3]>::try_from(context.rng.names(3)).map_err(|_| anyhow::anyhow!("three names"))?;

    let as_reader = authorizer.auth_headers(&reader, &["reader"])?;
    let seen = get(&caller, "/hello", as_reader.clone(), &[(PRINCIPAL_HEADER, &forged)]).await;
    let name = principal(&seen);
    context.require(
        "the backend is told who calls",
        format!("the name {reader:?}"),
        format!("A call of {reader} who says to be {forged} got {}, and arrived with the name {name:?}", status_text(&seen)),
        name == reader,
        "The authorizer adds the name on the way. What is removed by a route is removed at the end of it, the \
         authorizer's word too. Remove what callers say before anybody is asked.",
    );
    let mut arrived = Vec::new();
    for (header, value) in
        [(PRINCIPAL_HEADER, forged.as_str()), (ROLES_HEADER, "admin"), (UNDERSCORES, forged.as_str())]
    {
        let seen = get(&caller, "/public", HeaderMap::new(), &[(header, value)]).await;
        if reached_with_header(&seen, header) {
            arrived.push(header);
        }
    }
    let twice =
        get(&caller, "/public", HeaderMap::new(), &[(PRINCIPAL_HEADER, &forged), (PRINCIPAL_HEADER, "root")])
            .await;
    if reached_with_header(&twice, PRINCIPAL_HEADER) {
        arrived.push("two of one name");
    }
    context.require(
        "what a caller says of himself does not arrive where nobody is asked",
        "0",
        format!("{} of 4 forgeries at /public reached the backend{}", arrived.len(), list(&arrived)),
        arrived.is_empty(),
        if arrived == [UNDERSCORES] {
            "For a backend that makes variables of headers a dash and an underscore are the same. Envoy can refuse \
             such headers, or drop them: headers_with_underscores_action."
        } else {
            "Where the authorizer is asked it overwrites these headers. On this route nobody is asked, so nobody does."
        },
    );
    let open = get(&caller, "/public", HeaderMap::new(), &[]).await;
    let by_reader = get(&caller, "/vault", as_reader, &[]).await;
    let by_admin = get(&caller, "/vault", authorizer.auth_headers(&admin, &["admin"])?, &[]).await;
    context.require(
        "the vault is for admins",
        "403, 200 and 200",
        format!(
            "A reader's GET /vault got {}, an admin's {}, and anybody's GET /public {}",
            status_text(&by_reader),
            status_text(&by_admin),
            status_text(&open)
        ),
        (status_text(&by_reader).as_str(), status_text(&by_admin).as_str(), status_text(&open).as_str()) == ("403", "200", "200"),
        "There is a policy for it, which asks about what the route tells the authorizer (context_extensions): not \
         about headers, which anybody can send.",
    );
    Ok(())
}

async fn get(
    caller: &Caller,
    path: &str,
    mut headers: HeaderMap,
    more: &[(&str, &str)],
) -> Result<CallResult, CallError> {
    for (name, value) in more {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    caller.http(Method::GET, path, headers, Bytes::new()).await
}

fn principal(seen: &Result<CallResult, CallError>) -> &str {
    let arrived = seen.as_ref().ok().and_then(|seen| seen.seen_by_backend.as_ref());
    arrived.map_or("", |arrived| arrived.principal.as_str())
}

fn reached_with_header(seen: &Result<CallResult, CallError>, header: &str) -> bool {
    let arrived = seen.as_ref().ok().and_then(|seen| seen.seen_by_backend.as_ref());
    arrived.is_some_and(|arrived| arrived.headers.iter().any(|name| name == header))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}
