//! What the policies say, and what is said of wrong ones. Does not know how the principal was found out.

use std::collections::BTreeMap;

use demo5_authz::policy::{Action, Policies, Principal};

use super::common::{HELLO, policies};

fn judge(role: &str, method: &str, path: &str, extensions: &[(&str, &str)]) -> (bool, Vec<String>) {
    let principal = Principal::User { name: "ana".into(), roles: vec![role.into()] };
    let verdict = policies().judge(&principal, &Action { method, path, grpc: false, extensions });
    assert_eq!(verdict.failed, None);
    (verdict.permitted, verdict.policies)
}

#[test]
fn policies_decide_by_role_method_path_and_what_the_route_adds() {
    let by = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    assert_eq!(judge("reader", "POST", HELLO, &[]), (true, by(&["readers-say-hello"])));
    assert_eq!(judge("reader", "POST", "/mesh.hello.v1.Greeter/DeleteGreeting", &[]), (false, by(&[])));
    assert_eq!(
        judge("admin", "POST", "/mesh.hello.v1.Greeter/DeleteGreeting", &[]),
        (true, by(&["admins-do-all"]))
    );
    assert_eq!(judge("reader", "GET", "/hello", &[]), (true, by(&["readers-say-hello"])));
    assert_eq!(judge("reader", "DELETE", "/hello", &[]), (false, by(&[])));
    assert_eq!(judge("nobody", "GET", "/hello", &[]), (false, by(&[])));
    assert_eq!(judge("reader", "GET", "/vault", &[]), (true, by(&["readers-say-hello"])));
    let clearance = [("clearance", "admin")];
    assert_eq!(judge("reader", "GET", "/vault", &clearance), (false, by(&["clearance-is-for-admins"])));
    assert_eq!(judge("admin", "GET", "/vault", &clearance), (true, by(&["admins-do-all"])));
    let printer = Principal::Workload { id: "spiffe://demo5.example/ns/cards/sa/printer".into() };
    let action = Action { method: "POST", path: HELLO, grpc: true, extensions: &[] };
    assert_eq!(policies().judge(&printer, &action).policies, by(&["the-greeting-card-printer"]));
    let other = Principal::Workload { id: "spiffe://demo5.example/ns/cards/sa/other".into() };
    assert!(!policies().judge(&other, &action).permitted);
}

#[test]
fn a_wrong_policy_is_told_with_its_place() {
    let read = |text: &str| Policies::parse(&BTreeMap::from([("x.cedar".to_owned(), text.to_owned())]));
    let told = |text: &str| read(text).unwrap_err().to_string();
    assert!(told("@id(\"a\")\npermit (principal,\n  action resource);").starts_with("x.cedar:3:10: "));
    // A misspelt attribute would be a rule that never applies.
    let misspelt = "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.metod == \"GET\" };";
    let misspelt = told(misspelt);
    assert!(misspelt.starts_with("x.cedar:3:") && misspelt.contains("metod"), "{misspelt}");
    let unknown = told("@id(\"a\") permit (principal in Rolle::\"x\", action, resource);");
    assert!(unknown.starts_with("x.cedar:1:") && unknown.contains("Rolle"), "{unknown}");
    assert!(told("permit (principal, action, resource);").contains("@id"));
    let twice = "@id(\"a\") permit (principal, action, resource);\n".repeat(2);
    assert!(told(&twice).contains("stands twice"));
    // A tag that may be missing has to be asked for first.
    assert!(
        told("@id(\"a\") permit (principal, action, resource) when { resource.getTag(\"x\") == \"1\" };")
            .starts_with("x.cedar:1:")
    );
    assert!(read("").unwrap().is_empty());
}

#[test]
fn a_policy_that_cannot_be_evaluated_is_a_no_even_if_another_permits() {
    let text = "@id(\"all\") permit (principal, action, resource);
        @id(\"never\") forbid (principal, action, resource) when { 9223372036854775807 + (if context.grpc then 1 else 0) == 0 };";
    let policies = Policies::parse(&BTreeMap::from([("x.cedar".to_owned(), text.to_owned())])).unwrap();
    let principal = Principal::User { name: "ana".into(), roles: Vec::new() };
    let verdict =
        policies.judge(&principal, &Action { method: "GET", path: "/", grpc: false, extensions: &[] });
    assert!(verdict.permitted);
    let verdict =
        policies.judge(&principal, &Action { method: "GET", path: "/", grpc: true, extensions: &[] });
    assert!(!verdict.permitted && verdict.failed.unwrap().contains("overflow"));
}
