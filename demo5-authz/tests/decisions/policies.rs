//! What the policies say, and what is said of wrong ones. Does not know how the principal was found out.

use std::collections::BTreeMap;

use demo5_authz::policy::{Action, Policies, Principal};

use super::common::{HELLO, policies};

fn evaluate(role: &str, method: &str, path: &str, extensions: &[(&str, &str)]) -> (bool, Vec<String>) {
    let principal = Principal::User { name: "ana".into(), roles: vec![role.into()] };
    let policy_decision = policies().evaluate(&principal, &Action { method, path, grpc: false, extensions });
    assert_eq!(policy_decision.error, None);
    (policy_decision.permitted, policy_decision.policies)
}

#[test]
fn policies_decide_by_role_method_path_and_context_extensions() {
    let by = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    assert_eq!(evaluate("reader", "POST", HELLO, &[]), (true, by(&["readers-say-hello"])));
    assert_eq!(evaluate("reader", "POST", "/mesh.hello.v1.Greeter/DeleteGreeting", &[]), (false, by(&[])));
    assert_eq!(
        evaluate("admin", "POST", "/mesh.hello.v1.Greeter/DeleteGreeting", &[]),
        (true, by(&["admins-do-all"]))
    );
    assert_eq!(evaluate("reader", "GET", "/hello", &[]), (true, by(&["readers-say-hello"])));
    assert_eq!(evaluate("reader", "DELETE", "/hello", &[]), (false, by(&[])));
    assert_eq!(evaluate("nobody", "GET", "/hello", &[]), (false, by(&[])));
    assert_eq!(evaluate("reader", "GET", "/vault", &[]), (true, by(&["readers-say-hello"])));
    let clearance = [("clearance", "admin")];
    assert_eq!(evaluate("reader", "GET", "/vault", &clearance), (false, by(&["clearance-is-for-admins"])));
    assert_eq!(evaluate("admin", "GET", "/vault", &clearance), (true, by(&["admins-do-all"])));
    let printer = Principal::Workload { id: "spiffe://demo5.example/ns/cards/sa/printer".into() };
    let action = Action { method: "POST", path: HELLO, grpc: true, extensions: &[] };
    assert_eq!(policies().evaluate(&printer, &action).policies, by(&["the-greeting-card-printer"]));
    let other = Principal::Workload { id: "spiffe://demo5.example/ns/cards/sa/other".into() };
    assert!(!policies().evaluate(&other, &action).permitted);
}

#[test]
fn an_invalid_policy_is_rejected_with_line_and_column() {
    let read = |text: &str| Policies::parse(&BTreeMap::from([("x.cedar".to_owned(), text.to_owned())]));
    let parse_error = |text: &str| read(text).unwrap_err().to_string();
    assert!(parse_error("@id(\"a\")\npermit (principal,\n  action resource);").starts_with("x.cedar:3:10: "));
    // A misspelt attribute would be a rule that never applies.
    let misspelt = "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.metod == \"GET\" };";
    let misspelt = parse_error(misspelt);
    assert!(misspelt.starts_with("x.cedar:3:") && misspelt.contains("metod"), "{misspelt}");
    let unknown = parse_error("@id(\"a\") permit (principal in Rolle::\"x\", action, resource);");
    assert!(unknown.starts_with("x.cedar:1:") && unknown.contains("Rolle"), "{unknown}");
    assert!(parse_error("permit (principal, action, resource);").contains("@id"));
    let twice = "@id(\"a\") permit (principal, action, resource);\n".repeat(2);
    assert!(parse_error(&twice).contains("stands twice"));
    // A tag that may be missing has to be asked for first.
    assert!(
        parse_error(
            "@id(\"a\") permit (principal, action, resource) when { resource.getTag(\"x\") == \"1\" };"
        )
        .starts_with("x.cedar:1:")
    );
    assert!(read("").unwrap().is_empty());
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies_even_if_another_permits() {
    let text = "@id(\"all\") permit (principal, action, resource);
        @id(\"never\") forbid (principal, action, resource) when { 9223372036854775807 + (if context.grpc then 1 else 0) == 0 };";
    let policies = Policies::parse(&BTreeMap::from([("x.cedar".to_owned(), text.to_owned())])).unwrap();
    let principal = Principal::User { name: "ana".into(), roles: Vec::new() };
    let policy_decision =
        policies.evaluate(&principal, &Action { method: "GET", path: "/", grpc: false, extensions: &[] });
    assert!(policy_decision.permitted);
    let policy_decision =
        policies.evaluate(&principal, &Action { method: "GET", path: "/", grpc: true, extensions: &[] });
    assert!(!policy_decision.permitted && policy_decision.error.unwrap().contains("overflow"));
}
