//! Asks the student's function for the endpoints of some backends.

use crate::student::{Backend, endpoints};

/// `REGION,ADDRESS,CAPACITY;…` in; `REGION|WEIGHT|ADDRESS=WEIGHT,…;…` out.
pub fn answer(question: &str) -> String {
    let backend = |text: &str| {
        let [region, address, capacity] = text.split(',').collect::<Vec<_>>()[..] else { unreachable!() };
        let capacity: u32 = capacity.parse().expect("a number");
        Backend { region: region.to_owned(), address: address.to_owned(), capacity }
    };
    let backends: Vec<Backend> = question.split(';').map(backend).collect();
    let mut localities = Vec::new();
    for locality in endpoints(&backends) {
        let endpoint =
            |one: &crate::student::Endpoint| format!("{}={}", one.address, one.load_balancing_weight);
        let endpoints: Vec<String> = locality.endpoints.iter().map(endpoint).collect();
        localities.push(format!("{}|{}|{}", locality.region, locality.load_balancing_weight, endpoints.join(",")));
    }
    localities.join(";")
}
