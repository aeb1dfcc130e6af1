//! What real APIs are sent daily in paths and queries arrives byte for byte.

use anyhow::{Result, ensure};
use bot_bottle_testkit::{Answer, FakeUpstream, SeenRequest};

use crate::{
    bottle::{OPEN, Operator, has},
    table::Need,
};

/// Whose requests look so, and a path with its query.
pub(crate) const TARGETS: &[(&str, &str)] = &[
    ("GitLab", "/api/v4/projects/group%2Fsub%2Fproject/repository/files/src%2Fmain.rs/raw?ref=main"),
    ("Prometheus", "/api/v1/query?query=rate(requests_total{job=%22api%22,code!~%225..%22}[5m])"),
    ("Prometheus", "/api/v1/query?query=rate%28x%7Bjob%3D%22api%22%7D%5B5m%5D%29&time=1700000000.5"),
    ("OData", "/v4/People('ada')?$filter=Name%20eq%20'US%20%26%20EU'%20and%20(Budget%20gt%203)&$top=1"),
    ("object stores", "/bucket/a+b//c%20d/%2B/e%2Ff;v=1?X-Amz-Signature=ab%2Fcd%3D&prefix=a/&list-type=2"),
    ("npm", "/@types%2fnode"),
    ("npm", "/@types/node/-/node-20.0.0.tgz"),
    ("Go modules", "/github.com/!burnt!sushi/toml/@v/v1.3.2.info"),
    ("Elasticsearch", "/logs-*/_search?q=level:error%20AND%20host:(a%20OR%20b)"),
    ("JSON:API", "/articles?filter[author]=1&page[size]=10&fields=a,b|c"),
    ("Matrix", "/_matrix/client/v3/rooms/!abc:example.org/send/m.room.message/~1"),
    ("Salesforce", "/services/data/v60.0/query?q=SELECT+Id+FROM+Account+WHERE+Name='x'"),
    ("names that are not ASCII", "/wiki/S%C3%BC%C3%9F?q=%E2%82%AC"),
    ("names that are not ASCII", "/wiki/?q=süß+日本€"),
    ("dot segments", "/a/./b/../c?next=/d/../e"),
    ("empty queries", "/search?"),
];

pub(crate) fn arrive_as_they_were_sent() -> Result<()> {
    if !has("curl", &[Need::Program("curl")], None) {
        return Ok(());
    }
    let handler = |_: &SeenRequest| Answer::new(200, "text/plain", "arrived");
    let upstream = FakeUpstream::builder().host(OPEN, handler).start()?;
    let operator = Operator::new(&upstream)?;
    for version in ["--http1.1", "--http2"] {
        let before = upstream.requests().len();
        let steps: Vec<_> = TARGETS
            .iter()
            .map(|(_, target)| {
                let quoted = target.replace('\'', "'\\''");
                format!("curl -sS {version} --globoff --path-as-is 'https://{OPEN}{quoted}'")
            })
            .collect();
        let printed = operator.run(None, &steps)?;
        for ((api, target), printed) in TARGETS.iter().zip(&printed) {
            ensure!(printed.contains("arrived"), "{version} {api} {target}: {printed}");
        }
        let seen: Vec<_> = upstream.requests()[before..].iter().map(target_of).collect();
        let sent: Vec<_> = TARGETS.iter().map(|(_, target)| (*target).to_owned()).collect();
        ensure!(seen == sent, "{version}: {seen:#?}");
    }
    Ok(())
}

fn target_of(request: &SeenRequest) -> String {
    request.query.as_ref().map_or(request.path.clone(), |query| format!("{}?{query}", request.path))
}
