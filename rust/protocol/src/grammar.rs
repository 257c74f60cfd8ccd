//! The octet classes of RFC 9110 section 5.6 and RFC 9112 that the rest of the crate is written in.

/// Letters, digits and `specials`.
pub(crate) const fn alphanumeric_and(specials: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = (octet as u8).is_ascii_alphanumeric();
        octet += 1;
    }
    let mut index = 0;
    while index < specials.len() {
        table[specials[index] as usize] = true;
        index += 1;
    }
    table
}

/// `tchar` of RFC 9110 section 5.6.2.
const TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// Whether an octet may stand in a token.
pub(crate) const fn is_tchar(octet: u8) -> bool {
    TOKEN[octet as usize]
}

/// `token = 1*tchar`, so never empty.
pub(crate) fn is_token(octets: &[u8]) -> bool {
    // No early exit: nearly always the answer is yes.
    !octets.is_empty()
        && octets
            .iter()
            .fold(true, |all, &octet| all & is_tchar(octet))
}

/// Whether an octet can be no part of a field value: the controls but HTAB, and DEL (RFC 9110 section 5.5).
pub(crate) const fn is_control(octet: u8) -> bool {
    (octet < 0x20 && octet != b'\t') || octet == 0x7f
}

/// Whether any octet [is a control](is_control).
///
/// No early exit: without one the compiler turns the loop into vector instructions, and the answer is nearly always
/// that there is none. Setting these up takes longer than a short value.
pub(crate) fn has_control(octets: &[u8]) -> bool {
    if octets.len() < SHORT {
        return octets
            .iter()
            .fold(false, |found, &octet| found | CONTROL[octet as usize]);
    }
    octets
        .iter()
        .fold(false, |found, &octet| found | is_control(octet))
}

/// Octets of a value that is looked at one by one.
const SHORT: usize = 32;

const CONTROL: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = is_control(octet as u8);
        octet += 1;
    }
    table
};

/// `value` without the optional white space around it (`OWS` of RFC 9110 section 5.6.3).
pub(crate) fn trim_ows(value: &[u8]) -> &[u8] {
    trim_end_ows(skip_ows(value))
}

/// `value` without the spaces and tabs at its end.
pub(crate) fn trim_end_ows(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// `value` without the spaces and tabs at its start.
pub(crate) fn skip_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    value
}

/// The number that `1*DIGIT` stands for; `None` if it is anything else, or beyond `u64`.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &octet| {
        let digit = octet.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_exactly_those_of_rfc_9110() {
        for octet in 0..=255u8 {
            let expected = octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
            assert_eq!(is_tchar(octet), expected, "{octet:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn controls_are_found_wherever_they_are() {
        for octet in 0..=255u8 {
            let expected = octet.is_ascii_control() && octet != b'\t';
            for length in [1, 20, 67] {
                let mut value = [b'v'; 67];
                value[length - 1] = octet;
                assert_eq!(has_control(&value[..length]), expected, "{octet:#x}");
            }
        }
    }

    #[test]
    fn white_space_is_trimmed_at_both_ends_only() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b" \t "), b"");
    }

    #[test]
    fn decimals_are_digits_within_u64() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"00012"), Some(12));
        for wrong in [
            &b""[..],
            b"18446744073709551616",
            b"+1",
            b"-1",
            b"1_0",
            b"0x1",
            b" 1",
            b"\xb2",
        ] {
            assert_eq!(decimal(wrong), None, "{wrong:?}");
        }
    }
}
