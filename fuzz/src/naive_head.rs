//! A reading of request heads that shares nothing with the product's: on a whole head, line by line, slow and plain.

use meinheld_protocol::{Framing, HeaderMap, Policy, Scheme};

/// What the octets at the start of a connection are.
#[derive(Debug)]
pub enum Verdict {
    /// The empty line has not come.
    Incomplete,
    /// No server of this policy may take it; this is the rule that it breaks.
    Refused(&'static str),
    /// Legal, as far as the form of the target is not looked at.
    Head(Reading),
}

#[derive(Debug)]
pub struct Reading {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    /// Major and minor.
    pub version: (u8, u8),
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub framing: Framing,
    pub scheme: Scheme,
    /// Whether a request may follow.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub continue_due: bool,
    /// Octets of the head, with its empty line and with the empty line before it.
    pub len: usize,
}

/// Reads the head that `wire` starts with.
pub fn read(policy: &Policy, trusted: bool, wire: &[u8]) -> Verdict {
    let skipped = if wire.starts_with(b"\r\n") { 2 } else { 0 };
    let wire = &wire[skipped..];
    if wire.starts_with(b"\r\n") {
        return Verdict::Refused("empty lines");
    }
    let Some(end) = wire.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Verdict::Incomplete;
    };
    match read_lines(policy, trusted, &split(&wire[..end], b"\r\n")) {
        Ok(reading) => Verdict::Head(Reading {
            len: skipped + end + 4,
            ..reading
        }),
        Err(rule) => Verdict::Refused(rule),
    }
}

fn read_lines(policy: &Policy, trusted: bool, lines: &[&[u8]]) -> Result<Reading, &'static str> {
    let limits = &policy.limits;
    must(
        !lines
            .iter()
            .any(|line| line.contains(&b'\r') || line.contains(&b'\n')),
        "lone CR or LF",
    )?;
    must(lines[0].len() <= limits.request_line, "request line limit")?;
    let [method, target, version] = split(lines[0], b" ")[..] else {
        return Err("three parts");
    };
    must(is_token(method), "method token")?;
    if !policy.permit_unconventional_method {
        must((3..=20).contains(&method.len()), "method length")?;
        must(
            !method.iter().any(|o| o.is_ascii_lowercase() || *o == b'#'),
            "method case",
        )?;
    }
    must(
        !target.is_empty() && target.iter().all(|&o| o > b' ' && o != 0x7f),
        "target octets",
    )?;
    let version = match version {
        b"HTTP/1.0" => (1, 0),
        b"HTTP/1.1" => (1, 1),
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            major @ b'0'..=b'9',
            b'.',
            minor @ b'0'..=b'9',
        ] if policy.permit_unconventional_version => (major - b'0', minor - b'0'),
        _ => return Err("version"),
    };

    let unfolded = unfold(policy, &lines[1..])?;
    must(unfolded.len() <= limits.fields, "field count limit")?;
    let mut fields = Vec::new();
    for (size, line) in &unfolded {
        must(*size <= limits.field_size, "field size limit")?;
        let colon = line.iter().position(|&o| o == b':').ok_or("colon")?;
        let (mut name, value) = (&line[..colon], &line[colon + 1..]);
        if policy.strip_header_spaces {
            name = trim_end(name);
        }
        must(is_token(name), "field name token")?;
        must(!value.iter().any(is_control), "control in value")?;
        fields.push((name.to_vec(), trim(value).to_vec()));
    }

    let all = |name: &str| -> Vec<&[u8]> {
        fields
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.as_slice())
            .collect()
    };
    let hosts = all("host");
    must(hosts.len() <= 1, "repeated Host")?;
    must(!hosts.is_empty() || version < (1, 1), "missing Host")?;
    must(hosts.iter().all(|host| is_host(host)), "Host")?;
    must(all("content-type").len() <= 1, "repeated Content-Type")?;
    must(
        all("expect")
            .iter()
            .all(|value| value.eq_ignore_ascii_case(b"100-continue")),
        "expectation",
    )?;
    let framing = framing(
        version,
        &all("content-length"),
        &all("transfer-encoding"),
        limits.max_body,
    )?;

    let expected = !all("expect").is_empty() && version >= (1, 1);
    let connection = all("connection");
    let closes = connection
        .iter()
        .flat_map(|value| value.split(|&o| o == b','))
        .any(|option| trim(option).eq_ignore_ascii_case(b"close"));
    // gunicorn's reading of HTTP/1.0: the option alone, in the first line.
    let asks_to_stay = connection
        .first()
        .is_some_and(|value| value.eq_ignore_ascii_case(b"keep-alive"));
    let stays = !closes && (version >= (1, 1) || asks_to_stay);

    let mut schemes: Vec<Scheme> = Vec::new();
    for (known, secure) in policy.secure_scheme_headers.iter().filter(|_| trusted) {
        for value in all(std::str::from_utf8(known).expect("settings are text")) {
            schemes.push(match value == secure {
                true => Scheme::Https,
                false => Scheme::Http,
            });
        }
    }
    must(schemes.windows(2).all(|two| two[0] == two[1]), "schemes")?;

    let vouched = |name: &[u8]| {
        let known = &policy.forwarder_headers;
        trusted && (known.contains(&b"*".to_vec()) || known.contains(&name.to_ascii_uppercase()))
    };
    let ambiguous = |name: &[u8]| name.contains(&b'_') && !vouched(name);
    match policy.header_map {
        HeaderMap::Drop => fields.retain(|(name, _)| !ambiguous(name)),
        HeaderMap::Refuse => must(
            !fields.iter().any(|(name, _)| ambiguous(name)),
            "ambiguous name",
        )?,
        HeaderMap::Dangerous => {}
    }

    // RFC 9112 section 3.2.2: the authority of the absolute form stands in for Host.
    if let Some(authority) = authority(method, target, policy.casefold_method) {
        must(!authority.is_empty() && is_host(&authority), "authority")?;
        match fields
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case(b"host"))
        {
            Some((_, value)) => *value = authority,
            None => fields.push((b"Host".to_vec(), authority)),
        }
    }

    Ok(Reading {
        method: match policy.casefold_method {
            true => method.to_ascii_uppercase(),
            false => method.to_vec(),
        },
        target: target.to_vec(),
        version,
        fields,
        framing,
        scheme: schemes.first().copied().unwrap_or(Scheme::Http),
        keep_alive: stays && !is_connect(method, policy.casefold_method),
        continue_due: expected && framing != Framing::None,
        len: 0,
    })
}

/// Each field with the size of its lines, each with its CRLF: the lines of a folded one are joined by a space.
fn unfold(policy: &Policy, lines: &[&[u8]]) -> Result<Vec<(usize, Vec<u8>)>, &'static str> {
    let mut fields: Vec<(usize, Vec<u8>)> = Vec::new();
    for line in lines {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            fields.push((line.len() + 2, line.to_vec()));
            continue;
        }
        must(policy.permit_obsolete_folding, "folding")?;
        let (size, field) = fields.last_mut().ok_or("nothing to continue")?;
        // A name ends with its line.
        must(field.contains(&b':'), "colon")?;
        *size += line.len() + 2;
        *field = [trim_end(field), b" ", trim(line)].concat();
    }
    Ok(fields)
}

fn is_connect(method: &[u8], casefold: bool) -> bool {
    method == b"CONNECT" || casefold && method.eq_ignore_ascii_case(b"CONNECT")
}

/// Nothing, or `uri-host [ ":" port ]` (RFC 9112 section 3.2, RFC 3986 section 3.2.2).
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let is_port = |port: &str| port.chars().all(|c| c.is_ascii_digit());
    if let Some((inner, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let (address, zone) = inner.split_once('%').unwrap_or((inner, ""));
        let future = inner
            .strip_prefix(['v', 'V'])
            .and_then(|rest| rest.split_once('.'));
        let literal = address.parse::<std::net::Ipv6Addr>().is_ok()
            && zone.split('%').all(is_plain)
            || future.is_some_and(|(version, name)| {
                !version.is_empty()
                    && !name.is_empty()
                    && version.chars().all(|c| c.is_ascii_hexdigit())
                    && name.split(':').all(is_plain)
            });
        return literal && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    let mut parts = host.split('%');
    parts.next().is_some_and(is_plain)
        && parts.all(|part| {
            part.len() >= 2 && part.is_char_boundary(2) && is_plain(part) && {
                part[..2].chars().all(|c| c.is_ascii_hexdigit())
            }
        })
        && is_port(port)
        && (!host.is_empty() || text.is_empty())
}

fn is_plain(part: &str) -> bool {
    part.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c))
}

/// The authority of a target in absolute form.
fn authority(method: &[u8], target: &[u8], casefold: bool) -> Option<Vec<u8>> {
    if is_connect(method, casefold) || target.starts_with(b"/") || target == b"*" {
        return None;
    }
    let scheme = target.windows(3).position(|three| three == b"://")?;
    let after_scheme = &target[scheme + 3..];
    let authority = after_scheme.split(|o| b"/?#".contains(o)).next()?;
    Some(authority.to_vec())
}

fn framing(
    version: (u8, u8),
    lengths: &[&[u8]],
    codings: &[&[u8]],
    max_body: Option<u64>,
) -> Result<Framing, &'static str> {
    match (lengths, codings) {
        ([], []) => Ok(Framing::None),
        ([digits], []) => {
            must(
                !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
                "length digits",
            )?;
            let text = std::str::from_utf8(digits).expect("digits are text");
            let length: u64 = text.parse().map_err(|_| "length beyond u64")?;
            must(
                max_body.is_none_or(|limit| length <= limit),
                "body too large",
            )?;
            Ok(match length {
                0 => Framing::None,
                length => Framing::Length(length),
            })
        }
        ([], [coding]) => {
            must(version >= (1, 1), "coding in HTTP/1.0")?;
            must(coding.eq_ignore_ascii_case(b"chunked"), "coding")?;
            Ok(Framing::Chunked)
        }
        _ => Err("several framings"),
    }
}

fn must(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}

/// `octets` between the occurrences of `separator`.
fn split<'a>(mut octets: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = octets
        .windows(separator.len())
        .position(|window| window == separator)
    {
        parts.push(&octets[..at]);
        octets = &octets[at + separator.len()..];
    }
    parts.push(octets);
    parts
}

pub fn is_token(octets: &[u8]) -> bool {
    let tchar = |o: &u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(o);
    !octets.is_empty() && octets.iter().all(tchar)
}

pub fn is_control(octet: &u8) -> bool {
    octet.is_ascii_control() && *octet != b'\t'
}

pub fn trim(mut octets: &[u8]) -> &[u8] {
    while let Some(b' ' | b'\t') = octets.first() {
        octets = &octets[1..];
    }
    trim_end(octets)
}

pub fn trim_end(mut octets: &[u8]) -> &[u8] {
    while let Some(b' ' | b'\t') = octets.last() {
        octets = &octets[..octets.len() - 1];
    }
    octets
}
