//! Request bodies that break parsers: the right status, never a failure, never HTML (contract
//! section 0).

use serde_json::{Value, json};

use super::client::{Answer, Request, post};
use super::ground::{Ground, LOGIN, REFRESH, VERIFY, nobody};
use super::judgement::{Fault, Judgement, otherwise};
use super::sheet::{Group, Sheet};

const GROUP: Group = Group::Bodies;
/// Stands in bodies where a secret would, and must not come back.
const SECRET: &str = "hunter2-that-nobody-echoes";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=edge";
/// Larger bodies are refused.
const MAX_BODY_BYTES: usize = 16 * 1024;
const NOT_A_STRING: &str =
    r#"{"username":["not a valid string"],"password":["not a valid string"]}"#;
const MISSING: &str = r#"{"username":["missing field"],"password":["missing field"]}"#;

/// What must come back.
#[derive(Clone, Copy)]
enum Expected {
    /// This status with a JSON body.
    Status(u16),
    /// This status with this body.
    Exactly(u16, &'static str),
    /// The login is refused: the body was fine.
    Refused,
}

impl Expected {
    fn in_words(self) -> String {
        match self {
            Self::Status(status) => format!("{status} with a JSON body"),
            Self::Exactly(status, body) => format!("{status} {body}"),
            Self::Refused => "a refused login (206 or 401)".to_owned(),
        }
    }

    fn judge(self, answer: &Answer) -> Result<(), Fault> {
        let fits = match self {
            Self::Status(status) => answer.status == status,
            Self::Exactly(status, body) => answer.status == status && answer.body == body,
            Self::Refused => matches!(answer.status, 206 | 401),
        };
        let kind = answer.header("content-type").unwrap_or_default();
        if !fits || !kind.starts_with(JSON) {
            return Err(otherwise(answer));
        }
        let object: Result<Value, _> = serde_json::from_str(&answer.body);
        match object {
            Ok(Value::Object(_)) if !answer.body.contains(SECRET) => Ok(()),
            Ok(Value::Object(_)) => Err(Fault::Wrong(format!("{} echoes it", answer.status))),
            _ => Err(otherwise(answer)),
        }
    }
}

/// One check: bodies of a kind.
struct Check {
    name: &'static str,
    expected: Expected,
    requests: Vec<Request>,
}

/// Runs the group.
pub(super) async fn run(ground: &Ground, sheet: &mut Sheet) {
    let nobody = match nobody() {
        Ok(nobody) => nobody,
        Err(fault) => return sheet.enter(GROUP, "bodies", "can be made", Err(fault)),
    };
    let families = [whole(), fields(), limits(&nobody), elsewhere()];
    for Check { name, expected, requests } in families.into_iter().flatten() {
        let seen = judge(ground, expected, &requests).await;
        sheet.enter(GROUP, name, expected.in_words(), seen);
    }
}

async fn judge(ground: &Ground, expected: Expected, requests: &[Request]) -> Judgement {
    let mut seen = 0;
    for (number, request) in requests.iter().enumerate() {
        let answer = ground.send(request).await?;
        let which = format!("no. {} of {}", number + 1, requests.len());
        expected.judge(&answer).map_err(|fault| fault.with(&which))?;
        seen = answer.status;
    }
    Ok(format!("{seen} to all {}", requests.len()))
}

fn json_bodies<T: AsRef<[u8]>>(bodies: impl IntoIterator<Item = T>) -> Vec<Request> {
    bodies.into_iter().map(|body| post(LOGIN).body(JSON, body)).collect()
}

fn multipart(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        body.push_str("--edge\r\nContent-Disposition: form-data; name=\"");
        body.push_str(name);
        body.push_str("\"\r\n\r\n");
        body.push_str(value);
        body.push_str("\r\n");
    }
    body + "--edge--\r\n"
}

/// Bodies that are wrong as a whole.
fn whole() -> Vec<Check> {
    let twice = [("username", "x"), ("password", "y"), ("password", SECRET)];
    vec![
        Check {
            name: "a field twice: JSON, form, multipart",
            expected: Expected::Status(400),
            requests: vec![
                post(LOGIN).body(JSON, r#"{"username":"x","password":"y","password":"z"}"#),
                post(LOGIN).body(JSON, r#"{"username":"x","password":"y","passw\u006frd":"z"}"#),
                post(LOGIN).body(FORM, "username=x&password=y&password=z"),
                post(LOGIN).body(FORM, "username=x&password=y&passwor%64=z"),
                post(LOGIN).body(MULTIPART, multipart(&twice)),
            ],
        },
        Check {
            name: "malformed JSON, nothing echoed",
            expected: Expected::Status(400),
            requests: json_bodies([
                format!(r#"{{"username": {SECRET}}}"#),
                format!(r#"{{"username":"{SECRET}""#),
                format!(r#"{{"username":"{SECRET}",}}"#),
                format!(r#"{{"username":"x"}} {SECRET}"#),
                format!(r#"["{SECRET}"]"#),
                format!(r#""{SECRET}""#),
                "null".to_owned(),
                "5".to_owned(),
                format!("\u{feff}{{\"username\":\"{SECRET}\"}}"),
                format!(r#"{{"username":NaN,"password":"{SECRET}"}}"#),
                format!("{{'username':'{SECRET}'}}"),
                format!(r#"{{"username":"\x41{SECRET}"}}"#),
            ]),
        },
        Check {
            name: "invalid UTF-8 and lone surrogates",
            expected: Expected::Status(400),
            requests: vec![
                post(LOGIN).body(JSON, b"{\"username\":\"x\xff\",\"password\":\"y\"}"),
                post(LOGIN).body(JSON, b"{\"username\":\"\xc0\xaf\",\"password\":\"y\"}"),
                post(LOGIN).body(JSON, r#"{"username":"\ud800","password":"y"}"#),
                post(LOGIN).body(FORM, "username=%ff&password=y"),
                post(LOGIN).body(FORM, "username=x&password=%C3"),
                post(LOGIN).body(FORM, b"username=\xff&password=y"),
            ],
        },
        Check {
            name: "broken multipart",
            expected: Expected::Status(400),
            requests: vec![
                post(LOGIN).body("multipart/form-data", multipart(&twice)),
                post(LOGIN).body("multipart/form-data; boundary=other", multipart(&twice)),
                post(LOGIN).body(MULTIPART, "--edge\r\nContent-Disposition: form-data; na"),
                post(LOGIN).body(MULTIPART, "--edge\r\n\r\nx\r\n--edge--\r\n"),
            ],
        },
        Check {
            name: "another media type",
            expected: Expected::Status(415),
            requests: ["text/plain", "application/xml", "text/html", "application/jsonp", "*/*"]
                .map(|kind| post(LOGIN).body(kind, r#"{"username":"x"}"#))
                .into(),
        },
    ]
}

/// Fields that are wrong.
fn fields() -> Vec<Check> {
    let both = |value: &Value| json!({ "username": value, "password": value }).to_string();
    let kinds =
        [json!([]), json!({}), json!(["x"]), json!({ "$ne": null }), json!(1.5), json!(true)];
    let long = json!("x".repeat(1025));
    vec![
        Check {
            name: "fields of another type",
            expected: Expected::Exactly(400, NOT_A_STRING),
            requests: json_bodies(kinds.iter().map(both)),
        },
        Check {
            name: "NUL in a field",
            expected: Expected::Exactly(400, NOT_A_STRING),
            requests: vec![
                post(LOGIN).body(JSON, both(&json!("a\0b"))),
                post(LOGIN).body(FORM, "username=a%00b&password=a%00b"),
                post(LOGIN).body(MULTIPART, multipart(&[("username", "\0"), ("password", "\0")])),
            ],
        },
        Check {
            name: "fields over 1,024 bytes",
            expected: Expected::Exactly(400, NOT_A_STRING),
            requests: json_bodies([both(&long)]),
        },
        Check {
            name: "missing, null and empty fields",
            expected: Expected::Exactly(400, MISSING),
            requests: vec![
                post(LOGIN),
                post(LOGIN).body(JSON, ""),
                post(LOGIN).body(JSON, "{}"),
                post(LOGIN).body(JSON, both(&Value::Null)),
                post(LOGIN).body(JSON, both(&json!(""))),
                post(LOGIN).body(FORM, "username=&password="),
                post(LOGIN).body(FORM, "&&&"),
            ],
        },
    ]
}

/// A login of nobody with something more in it.
fn nested(nobody: &str, depth: usize) -> String {
    let lists = depth.saturating_sub(1);
    let (open, close) = ("[".repeat(lists), "]".repeat(lists));
    format!(r#"{{"username":"{nobody}","password":"x","deep":{open}{close}}}"#)
}

fn sized(nobody: &str, bytes: usize) -> String {
    let body = |pad: &str| format!(r#"{{"username":"{nobody}","password":"x","pad":"{pad}"}}"#);
    body(&"x".repeat(bytes.saturating_sub(body("").len())))
}

fn limits(nobody: &str) -> Vec<Check> {
    let large = sized(nobody, MAX_BODY_BYTES + 1);
    // Each several times: a server that hangs up on an unread body loses its answer now and then, and
    // a proxy makes 502 of it.
    let oversize = [
        post(LOGIN).body(JSON, &large),
        post(LOGIN).body(JSON, &large).header("transfer-encoding", "chunked"),
        post(LOGIN).body(JSON, sized(nobody, 64 * 1024)),
        post(REFRESH).body(JSON, &large),
        post(VERIFY).body(FORM, "token=x&".repeat(3000)),
    ];
    let long = json!({ "username": nobody, "password": "x".repeat(1024) });
    vec![
        Check {
            name: "JSON 17 and 7,000 deep",
            expected: Expected::Status(400),
            requests: json_bodies([
                nested(nobody, 17),
                nested(nobody, 7000),
                "[".repeat(16_000),
                "{\"a\":".repeat(3000),
            ]),
        },
        Check {
            name: "bodies over 16 KiB",
            expected: Expected::Status(413),
            requests: oversize.iter().cycle().take(5 * oversize.len()).cloned().collect(),
        },
        Check {
            name: "the largest that is allowed",
            expected: Expected::Refused,
            requests: json_bodies([
                sized(nobody, MAX_BODY_BYTES),
                nested(nobody, 16),
                long.to_string(),
            ]),
        },
    ]
}

/// The same parsers behind other paths.
fn elsewhere() -> Vec<Check> {
    let both = |body: &[u8]| [post(REFRESH).body(JSON, body), post(VERIFY).body(JSON, body)];
    let malformed: [&[u8]; 4] =
        [b"{", b"[]", b"{\"token\":\"\xff\"}", b"{\"token\":1,\"token\":2}"];
    vec![
        Check {
            name: "malformed bodies to refresh and verify",
            expected: Expected::Status(400),
            requests: malformed.into_iter().flat_map(both).collect(),
        },
        Check {
            name: "tokens of another type to refresh",
            expected: Expected::Exactly(400, r#"{"refresh_token":["not a valid string"]}"#),
            requests: [json!([]), json!({ "$gt": "" }), json!(true), json!("a\0")]
                .map(|token| post(REFRESH).json(&json!({ "refresh_token": token })))
                .into(),
        },
        Check {
            name: "tokens of another type to verify",
            expected: Expected::Exactly(400, r#"{"token":["not a valid string"]}"#),
            requests: [json!([]), json!({ "$gt": "" }), json!(true), json!("a\0")]
                .map(|token| post(VERIFY).json(&json!({ "token": token })))
                .into(),
        },
    ]
}
