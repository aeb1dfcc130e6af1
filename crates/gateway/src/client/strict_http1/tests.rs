use super::{Unreadable::Ambiguous, *};

/// What is left of the bytes when they come in pieces of this size, and how many heads passed; `Err` if they
/// are ambiguous.
fn read(bytes: &[u8], piece: usize) -> Result<(Framing, usize), Unreadable> {
    let (mut framing, mut pending, mut passed) = (Framing::message(), Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        pending.extend_from_slice(piece);
        loop {
            let length = framing.advance(&pending)?;
            if length == 0 {
                break;
            }
            pending.drain(..length);
            passed += length;
        }
    }
    Ok((framing, passed))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n";

#[test]
fn messages_end_where_they_say_however_they_come() {
    let chunked = "Transfer-Encoding: Chunked\r\n\r\n";
    for (bytes, rest) in [
        (format!("{GET}\r\n"), Framing::message()),
        (format!("\r\n{GET}\r\n"), Framing::message()),
        (format!("{GET}\r\n{GET}\r\n"), Framing::message()),
        (format!("{GET}Content-Length: 0\r\n\r\n"), Framing::message()),
        (format!("{GET}Content-Length: 5\r\n\r\n12"), Framing::Body(3)),
        (format!("{GET}Content-Length: 5\r\n\r\n\r\n\r\n5{GET}\r\n"), Framing::message()),
        (format!("{GET}{chunked}"), Framing::Chunked(Chunk::Size)),
        (format!("{GET}{chunked}a;name=value\r\n123"), Framing::Chunked(Chunk::Data(7))),
        (format!("{GET}{chunked}2\r\n\r\n\r\n0\r\nX: y\r\n\r\n{GET}\r\n"), Framing::message()),
        (format!("{GET}Upgrade: websocket\r\n\r\nbytes"), Framing::Undecided),
        (format!("{GET}Upgrade: h2c\r\n\r\n"), Framing::message()),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\nbytes".to_owned(), Framing::Undecided),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), Framing::message()),
    ] {
        let withheld = if rest == Framing::Undecided { 5 } else { 0 };
        for piece in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(
                read(bytes.as_bytes(), piece),
                Ok((rest.clone(), bytes.len() - withheld)),
                "{bytes:?}"
            );
        }
    }
}

#[test]
fn bytes_that_can_be_read_in_two_ways_are_told() {
    let lines = [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length:",
        "Content-Length: 9999999999999999999",
        "Content-Length : 5",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        " folded: line",
        "X: a\r\n b",
        "X: a\nY: b",
        "X: a\rY: b",
        "X: a\0b",
        "no colon",
        ": no name",
        "Connection: close, Content-Length",
        "Connection: host",
        "Upgrade: websocket\r\nContent-Length: 5",
    ];
    for line in lines {
        let bytes = format!("{GET}{line}\r\n\r\n");
        assert_eq!(read(bytes.as_bytes(), bytes.len()), Err(Ambiguous), "{line:?}");
        assert_eq!(read(bytes.as_bytes(), 1), Err(Ambiguous), "{line:?}");
    }
    for request in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /\t HTTP/1.1",
        "GET / a HTTP/1.1",
        "GET /",
        "GET / HTTP/2.0",
        "G(T / HTTP/1.1",
        "",
        "\r\n",
    ] {
        let bytes = format!("{request}\r\nHost: a.test\r\n\r\n");
        assert_eq!(read(format!("\r\n{bytes}").as_bytes(), 1000), Err(Ambiguous), "{request:?}");
    }
    let chunked = format!("{GET}Transfer-Encoding: chunked\r\n\r\n");
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "0x1\r\n",
        "1 \r\n",
        "1\n",
        "1\r\naX\r\n",
        "1\r\na\n",
        "1;\n\r\n",
        "1111111111111111\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
    ] {
        assert_eq!(read(format!("{chunked}{body}").as_bytes(), 1000), Err(Ambiguous), "{body:?}");
    }
}

#[test]
fn long_heads_are_left_to_be_refused_and_long_lines_of_bodies_are_ambiguous() {
    let head = format!("{GET}X: {}", "a".repeat(MAX_HEAD_BYTES));
    assert_eq!(read(head.as_bytes(), 1000), Err(Unreadable::TooLarge));
    let chunked = format!("{GET}Transfer-Encoding: chunked\r\n\r\n");
    let size = format!("{chunked}1;{}", "a".repeat(MAX_CHUNK_LINE));
    assert_eq!(read(size.as_bytes(), 1000), Err(Ambiguous));
    let trailers = format!("{chunked}0\r\n{}", "X: y\r\n".repeat(MAX_HEAD_BYTES / 6 + 1));
    assert_eq!(read(trailers.as_bytes(), 1000), Err(Ambiguous));
}
