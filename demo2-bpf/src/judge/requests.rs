//! Verdicts on what is sent: bytes, requests, and the time that they take inside Envoy. Does not know who carries it.

use super::Court;

impl Court<'_> {
    pub(super) fn bytes(&mut self) {
        let (read, written) = (self.workers("in"), self.workers("out"));
        let (from_client, by_client) = (self.facts.counted.downstream_in, self.facts.sent.bytes_out);
        self.with_envoy(
            "bytes-in",
            "Bytes that workers read, from clients and backends",
            read,
            |counted| counted.downstream_in + counted.upstream_in,
            None,
        );
        self.with_envoy(
            "bytes-out",
            "Bytes that workers wrote, to clients and backends",
            written,
            |counted| counted.downstream_out + counted.upstream_out,
            None,
        );
        self.with_client(
            "bytes-client",
            "Of these came from the client what the client sent",
            format!("{from_client} by Envoy"),
            i64::try_from(from_client).unwrap_or(i64::MAX),
            by_client,
        );
    }

    pub(super) fn requests(&mut self) {
        let lines = self.trace.maps.get("line").cloned().unwrap_or_default();
        let begin = |start: &str| -> i64 {
            lines.iter().filter(|(line, _)| line.starts_with(start)).map(|(_, count)| count).sum()
        };
        let (sent, counted) = (self.facts.sent.requests, self.facts.counted.downstream_requests);
        // Other requests may begin with other words, so that here others' traffic leaves nothing to compare.
        let (id, claim) = ("requests-read", "The kernel reads as many requests as were sent");
        match self.facts.other_traffic() {
            None => self.agree(id, claim, begin("GET /hello"), &[("the client", sent), ("Envoy", counted)]),
            Some(why) => self.story.not_checked(id, claim, format!("{sent} by the client"), why),
        }
        let answers = begin("HTTP/1.1 200");
        let seen = format!("{answers} by the kernel");
        self.with_client("requests-answered", "And as many answers of the backend", seen, answers, sent);
    }

    /// All in microseconds. Each bound is one that the measured must keep, whoever is slow: the client begins before
    /// Envoy reads and ends after Envoy writes; Envoy times from after its read to before its write.
    pub(super) fn inside(&mut self) {
        let followed = self.trace.number("requests");
        let micros = |name: &str| u64::try_from(self.trace.number(name) / 1000).unwrap_or(0);
        let (request, backend, response) =
            (micros("request_ns"), micros("backend_ns"), micros("response_ns"));
        let total = request + backend + response;
        let claims = [
            ("inside-all", "Every request was followed through Envoy"),
            (
                "inside-total",
                "From read to written it took less than the client waited, and more than Envoy timed",
            ),
            ("inside-backend", "Of that it waited for the backend"),
        ];
        let sent = self.facts.sent;
        let why = self.facts.other_traffic().or_else(|| {
            self.facts.timed.is_none().then(|| "Envoy did not merge its histograms of times".to_owned())
        });
        let timed = match (why, self.facts.timed) {
            (None, Some(timed)) => timed,
            (why, _) => {
                let why = why.unwrap_or_default();
                claims
                    .iter()
                    .for_each(|(id, claim)| self.story.not_checked(id, claim, "times by Envoy", &why));
                return;
            }
        };
        self.agree(
            claims[0].0,
            claims[0].1,
            followed,
            &[("the client", sent.requests), ("Envoy's downstream_rq_time", timed.requests)],
        );
        let (least, most) = (timed.requests_least_ms * 1000, sent.micros);
        self.story.claim(
            claims[1].0,
            claims[1].1,
            format!("{least} us by Envoy's downstream_rq_time to {most} us by the client"),
            format!("{total} us by the kernel"),
            followed > 0 && (least..=most).contains(&total),
        );
        let (least, most) = (sent.backend_micros, timed.calls_most_ms * 1000);
        self.story.claim(
            claims[2].0,
            claims[2].1,
            format!("{least} us by the backend to {most} us by Envoy's upstream_rq_time"),
            format!("{backend} us by the kernel"),
            followed > 0 && (least..=most).contains(&backend),
        );
        let each = |sum: u64| sum / u64::try_from(followed).unwrap_or(1).max(1);
        self.story.note(format!(
            "a request in us: {} request path, {} backend, {} response path",
            each(request),
            each(backend),
            each(response)
        ));
        self.histogram("request_us", "request path");
        self.histogram("response_us", "response path");
    }
}
