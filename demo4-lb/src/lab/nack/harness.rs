//! Plays one scenario with a new stream of the student's: what happens in, what the stream did out.

use crate::student::{Request, Resource, Response, Snapshot, Stream};

/// Events, separated by `;`. `P|VERSION|NAME=BODY,…` publishes; `R|NAMES|VERSION|NONCE|ERROR` is a request, where a
/// nonce `#2` is that of the second response. Out comes `VERSION|NAMES|REFUSED` for each event; VERSION is `-` for
/// silence, and `?` if the request would answer a response that never came.
pub fn answer(question: &str) -> String {
    let (mut stream, mut snapshot, mut sent) = (Stream::default(), Snapshot::default(), Vec::<Response>::new());
    let mut outcomes = Vec::new();
    for event in question.split(';') {
        let parts: Vec<&str> = event.split('|').collect();
        let response = match parts[..] {
            ["P", version, resources] => {
                snapshot = Snapshot {
                    version: version.to_owned(),
                    resources: resources.split(',').map(resource).collect(),
                };
                stream.on_publish(&snapshot)
            }
            ["R", names, version, nonce, error] => {
                let nonce = match nonce.strip_prefix('#') {
                    None => Some(String::new()),
                    Some(number) => {
                        let number: usize = number.parse().expect("a number");
                        sent.get(number - 1).map(|response| response.nonce.clone())
                    }
                };
                let Some(nonce) = nonce else {
                    outcomes.push("?||".to_owned());
                    continue;
                };
                let request = Request {
                    names: names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                    version: version.to_owned(),
                    nonce,
                    error: (!error.is_empty()).then(|| error.to_owned()),
                };
                stream.on_request(&request, &snapshot)
            }
            _ => unreachable!("the checker writes the events"),
        };
        let rejected = stream.rejected_version().unwrap_or_default().to_owned();
        match response {
            None => outcomes.push(format!("-||{rejected}")),
            Some(response) => {
                let names: Vec<&str> = response.resources.iter().map(|one| one.name.as_str()).collect();
                outcomes.push(format!("{}|{}|{rejected}", response.version, names.join(",")));
                sent.push(response);
            }
        }
    }
    outcomes.join(";")
}

fn resource(text: &str) -> Resource {
    let (name, body) = text.split_once('=').expect("the checker writes them so");
    Resource { name: name.to_owned(), body: body.to_owned() }
}
