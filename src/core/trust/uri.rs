//! Rules about URIs, and SPIFFE ids above all.
//!
//! Never normalises: what is not in normal form, or could be read in two ways (percent-encoding, dot
//! segments, `//`, a query, a user), is refused in a rule and matches nothing in a certificate. Next:
//! `glob`, for what stands within one segment.

use std::fmt;

use super::glob::Glob;

/// Longest URI that is looked at, in bytes: the limit of the SPIFFE standard (SPIFFE-ID §2.3).
pub const URI_BYTES_MAX: usize = 2048;

/// Longest name of a trust domain, in bytes (SPIFFE-ID §2.1).
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// A URI in which segments of the path may be open: `*` takes one segment, or one character or more
/// within a segment, `**` takes any number of segments, or none.
///
/// Scheme and authority are literal and compared without case, the path with it (RFC 3986 §6.2.2.1).
/// No wildcard takes an empty segment, so that only a rule with a slash at its end takes a URI with
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UriPattern {
    /// As written, with scheme and authority in lower case.
    text: Box<str>,
    scheme: Box<str>,
    authority: Option<Box<str>>,
    is_rooted: bool,
    path: Box<[Segment]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    /// `**`
    Any,
    One(Glob),
}

/// Why a text is not a rule about URIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("the URI has {bytes} bytes, the limit is {URI_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("it does not begin with a scheme, as in \"spiffe://\"")]
    Scheme,
    #[error("there is no host, or trust domain, after \"//\"")]
    NoAuthority,
    #[error("there is nothing after the scheme")]
    NoPath,
    #[error("'{character}' in the host")]
    AuthorityCharacter { character: char },
    #[error("a wildcard in the host, or trust domain, which must be written out")]
    AuthorityWildcard,
    #[error("a user before the host")]
    User,
    #[error("'%': percent-encoded names are never matched")]
    Encoded,
    #[error("'{character}': a query or fragment is never matched")]
    Query { character: char },
    #[error("'{character}' in the path")]
    PathCharacter { character: char },
    #[error("an empty segment: two slashes in a row")]
    EmptySegment,
    #[error("a segment that is \".\" or \"..\"")]
    DotSegment,
    #[error("'**' beside other characters: it stands for whole segments")]
    DoubleStar,
    #[error("a SPIFFE id begins with \"spiffe://\", in lower case")]
    SpiffeScheme,
    #[error("a trust domain holds only a-z, 0-9, '.', '-' and '_', not '{character}'")]
    TrustDomain { character: char },
    #[error("the trust domain has {bytes} bytes, the limit is {TRUST_DOMAIN_BYTES_MAX}")]
    TrustDomainTooLong { bytes: usize },
    #[error(
        "the path of a SPIFFE id holds only letters, digits, '.', '-' and '_', not '{character}'"
    )]
    SpiffeCharacter { character: char },
    #[error("a SPIFFE id does not end with a slash")]
    SpiffeSlash,
    /// X509-SVID §3.1.
    #[error("the SPIFFE id of a client has a path after the trust domain")]
    SpiffeNoPath,
}

/// A URI that holds nothing doubtful, cut into its parts.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    scheme: &'a str,
    authority: Option<&'a str>,
    /// Whether a slash stands before the first segment; always so after an authority.
    is_rooted: bool,
    /// From the first segment on; `None` where there is none.
    path: Option<&'a str>,
}

impl UriPattern {
    /// # Errors
    /// The first thing in `text` that is doubtful or no SPIFFE id.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let parts = Parts::of(text)?;
        parts.check_spiffe(Stars::AreWildcards)?;
        let path = parts.segments().map(Segment::parse).collect::<Result<_, _>>()?;
        let (scheme, authority) = (parts.scheme.to_ascii_lowercase(), parts.authority);
        let authority = authority.map(str::to_ascii_lowercase);
        let literal = scheme.len() + 1 + authority.as_ref().map_or(0, |host| 2 + host.len());
        let (head, tail) = text.split_at(literal);
        Ok(Self {
            text: Box::from(head.to_ascii_lowercase() + tail),
            scheme: Box::from(scheme),
            authority: authority.map(Box::from),
            is_rooted: parts.is_rooted,
            path,
        })
    }

    /// Whether this rule is about SPIFFE ids.
    pub fn is_spiffe(&self) -> bool {
        *self.scheme == *SPIFFE
    }

    /// Whether this rule takes `uri`, as it stands in a certificate.
    pub fn matches(&self, uri: &str) -> bool {
        let Ok(parts) = Parts::of(uri) else { return false };
        let same_authority = match (&self.authority, parts.authority) {
            (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(theirs),
            (None, None) => self.is_rooted == parts.is_rooted,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_authority
            && self.scheme.eq_ignore_ascii_case(parts.scheme)
            && parts.check_spiffe(Stars::AreNothing).is_ok()
            && takes(&self.path, parts.segments())
    }
}

impl fmt::Display for UriPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, UriError> {
        match text {
            "**" => Ok(Self::Any),
            text if text.contains("**") => Err(UriError::DoubleStar),
            text => Ok(Self::One(Glob::new(text))),
        }
    }
}

/// Whether `*` may stand in a SPIFFE id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stars {
    AreWildcards,
    AreNothing,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, UriError> {
        if text.len() > URI_BYTES_MAX {
            return Err(UriError::TooLong { bytes: text.len() });
        }
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        let is_inner = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_inner) {
            return Err(UriError::Scheme);
        }
        let (authority, path) = match rest.strip_prefix("//") {
            None => (None, rest),
            Some(rest) => {
                let (authority, path) =
                    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                check_authority(authority)?;
                (Some(authority), path)
            }
        };
        let parts = match (path.strip_prefix('/'), authority) {
            (Some(path), _) => Self { scheme, authority, is_rooted: true, path: Some(path) },
            (None, None) if path.is_empty() => return Err(UriError::NoPath),
            (None, Some(_)) if path.is_empty() => {
                Self { scheme, authority, is_rooted: true, path: None }
            }
            // After an authority this is a query, which `check_path` refuses.
            (None, _) => Self { scheme, authority, is_rooted: false, path: Some(path) },
        };
        parts.check_path()?;
        Ok(parts)
    }

    fn segments(self) -> impl Iterator<Item = &'a str> + Clone {
        self.path.into_iter().flat_map(|path| path.split('/'))
    }

    fn check_path(self) -> Result<(), UriError> {
        for character in self.path.unwrap_or_default().chars() {
            match character {
                '%' => return Err(UriError::Encoded),
                '?' | '#' => return Err(UriError::Query { character }),
                // RFC 3986 §3.3, pchar.
                _ if character.is_ascii_alphanumeric()
                    || "-._~!$&'()*+,;=:@/".contains(character) => {}
                _ => return Err(UriError::PathCharacter { character }),
            }
        }
        let mut segments = self.segments().peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "" if segments.peek().is_some() => return Err(UriError::EmptySegment),
                "." | ".." => return Err(UriError::DotSegment),
                _ => {}
            }
        }
        Ok(())
    }

    /// What a SPIFFE id must be beyond a URI; holds for other schemes.
    fn check_spiffe(self, stars: Stars) -> Result<(), UriError> {
        if !self.scheme.eq_ignore_ascii_case(SPIFFE) {
            return Ok(());
        }
        let Some(domain) = self.authority.filter(|_| self.scheme == SPIFFE) else {
            return Err(UriError::SpiffeScheme);
        };
        let is_in_domain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if let Some(character) = domain.chars().find(|c| !is_in_domain(*c)) {
            return Err(UriError::TrustDomain { character });
        }
        if domain.len() > TRUST_DOMAIN_BYTES_MAX {
            return Err(UriError::TrustDomainTooLong { bytes: domain.len() });
        }
        let path = self.path.ok_or(UriError::SpiffeNoPath)?;
        let is_in_path = |c: char| {
            c.is_ascii_alphanumeric()
                || "._-/".contains(c)
                || (c == '*' && stars == Stars::AreWildcards)
        };
        if let Some(character) = path.chars().find(|c| !is_in_path(*c)) {
            return Err(UriError::SpiffeCharacter { character });
        }
        match path.is_empty() || path.ends_with('/') {
            true => Err(UriError::SpiffeSlash),
            false => Ok(()),
        }
    }
}

/// A host, with a port or without, or an address in brackets.
fn check_authority(authority: &str) -> Result<(), UriError> {
    for character in authority.chars() {
        match character {
            '@' => return Err(UriError::User),
            '*' => return Err(UriError::AuthorityWildcard),
            '%' => return Err(UriError::Encoded),
            _ if character.is_ascii_alphanumeric() || "-._:[]".contains(character) => {}
            _ => return Err(UriError::AuthorityCharacter { character }),
        }
    }
    if authority.is_empty() { Err(UriError::NoAuthority) } else { Ok(()) }
}

/// Goes back to the last `**` only: what an earlier one could take, the last one can.
fn takes<'a>(pattern: &[Segment], mut path: impl Iterator<Item = &'a str> + Clone) -> bool {
    let mut at = 0;
    let mut last_any = None;
    loop {
        match pattern.get(at) {
            Some(Segment::Any) => {
                at += 1;
                last_any = Some((at, path.clone()));
                continue;
            }
            Some(Segment::One(glob))
                if path.next().is_some_and(|segment| glob.matches(segment)) =>
            {
                at += 1;
                continue;
            }
            None if path.next().is_none() => return true,
            Some(Segment::One(_)) | None => {}
        }
        let Some((after, from)) = &mut last_any else { return false };
        if from.next().is_none_or(str::is_empty) {
            return false;
        }
        at = *after;
        path = from.clone();
    }
}

const SPIFFE: &str = "spiffe";

#[cfg(test)]
mod tests;
