//! Uploads: `multipart/form-data`, as the OpenAI SDKs send a file.

use super::refusal::Refusal;

/// A file that was uploaded. What is in it is not kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Upload {
    pub(crate) filename: String,
    pub(crate) purpose: String,
    pub(crate) bytes: usize,
}

/// Reads the form: a `file` with a name, and a `purpose`.
pub(crate) fn read(body: &[u8]) -> Result<Upload, Refusal> {
    let (mut file, mut purpose) = (None, None);
    for (head, content) in parts(body) {
        match parameter(head, "name") {
            Some("file") => file = Some((parameter(head, "filename").unwrap_or("file"), content.len())),
            Some("purpose") => purpose = str::from_utf8(content).ok().filter(|purpose| !purpose.is_empty()),
            _ => {}
        }
    }
    let (filename, bytes) = file.ok_or_else(|| Refusal::missing("file"))?;
    let purpose = purpose.ok_or_else(|| Refusal::missing("purpose"))?;
    Ok(Upload { filename: filename.to_owned(), purpose: purpose.to_owned(), bytes })
}

/// The parts, each with its head. The first line is the delimiter; what is no text in a head is passed over.
fn parts(body: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let line = find(body, b"\r\n").map_or(&[][..], |end| &body[..end]);
    let delimiter = [b"\r\n", line].concat();
    let mut rest = body.get(line.len() + 2..).filter(|_| line.starts_with(b"--")).unwrap_or_default();
    std::iter::from_fn(move || {
        let end = find(rest, &delimiter)?;
        let part = &rest[..end];
        rest = rest.get(end + delimiter.len() + 2..).unwrap_or_default();
        Some(part)
    })
    .filter_map(|part| {
        let end = find(part, b"\r\n\r\n")?;
        Some((str::from_utf8(&part[..end]).ok()?, &part[end + 4..]))
    })
}

/// `name="value"` in a part's head.
fn parameter<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split([';', '\r', '\n']).find_map(|parameter| {
        let value = parameter.trim().strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches('"'))
    })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len().max(1)).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_as_the_sdks_send_it() {
        let form = "--b1\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
                    --b1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\
                    Content-Type: application/octet-stream\r\n\r\n{\"a\":1}\r\n{}\r\n--b1--\r\n";
        let upload = Upload { filename: "a.jsonl".into(), purpose: "batch".into(), bytes: 11 };
        assert_eq!(read(form.as_bytes()), Ok(upload));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for body in ["", "\r\n", "--", "--\r\n", "--b\r\n\r\n", "--b\r\n\r\nx\r\n--b", "{}", "--b\r\n--b--"] {
            assert!(read(body.as_bytes()).is_err(), "{body:?}");
        }
    }
}
