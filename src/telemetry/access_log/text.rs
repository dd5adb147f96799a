//! A record as one line for people: when, which way, how it ended, then `key=value` pairs.
//!
//! Says less than JSON does. What can come from a peer stands in quotes, escaped.

use std::fmt::Display;
use std::io::{self, Write};

use super::record::{Client, Record, Text, Tls};

/// Appends the line, with its line feed.
pub(super) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    // Into memory: it cannot fail.
    drop(write_line(record, &mut Line { out }));
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
}

fn write_line(record: &Record<'_>, line: &mut Line<'_>) -> io::Result<()> {
    let Record { time, id, listener, outcome, source, .. } = record;
    write!(line.out, "{time} {outcome}")?;
    line.pair("reason", record.reason)?;
    line.pair("source", Some(source))?;
    line.pair("proxy", record.proxy)?;
    line.quoted("listener", Some(Text::from(*listener)))?;
    line.quoted("sni", record.sni)?;
    line.quoted("chain", record.chain.map(Text::from))?;
    line.quoted("cluster", record.cluster.map(Text::from))?;
    line.pair("upstream", record.upstream)?;
    line.pair("upstream_ready", record.upstream_ready)?;
    line.pair("closed_by", record.closed_by)?;
    line.pair("closing", record.closing)?;
    if let (Some(alert), Some(name)) = (record.alert, record.alert_name) {
        write!(line.out, " alert={alert} alert_name={name}")?;
    }
    line.pair("duration_ms", Some(&record.duration_ms))?;
    line.pair("hello_ms", record.hello_ms.as_ref())?;
    line.pair("handshake_ms", record.handshake_ms.as_ref())?;
    line.pair("connected_ms", record.connected_ms.as_ref())?;
    write!(line.out, " bytes_received={}", record.bytes_received)?;
    write!(line.out, " bytes_sent={}", record.bytes_sent)?;
    if let Some(Tls { version, suite, resumed, alpn, .. }) = &record.tls {
        write!(line.out, " tls={version} suite={suite} resumed={resumed}")?;
        line.quoted("alpn", *alpn)?;
    }
    if let Some(Tls { version, resumed, .. }) = &record.upstream_tls {
        write!(line.out, " upstream_tls={version} upstream_resumed={resumed}")?;
    }
    if let Some(Client { subject, sans, serial, .. }) = &record.client {
        line.quoted("subject", Some(*subject))?;
        line.quoted("san", sans.first().copied())?;
        line.pair("serial", Some(serial))?;
    }
    line.quoted("detail", record.detail)?;
    line.quoted("rule", record.rule)?;
    if let Some(certificate) = &record.certificate {
        line.pair("certificate_side", Some(certificate.side))?;
        line.pair("certificate_depth", Some(certificate.depth))?;
    }
    for audit in record.audit.iter().flatten() {
        line.pair("audit", Some(audit.reason))?;
        line.quoted("audit_rule", audit.rule)?;
        line.quoted("audit_detail", Some(audit.detail))?;
    }
    line.quoted("hint", record.hint)?;
    line.pair("suppressed", record.suppressed)?;
    writeln!(line.out, " id={id}")
}

impl Line<'_> {
    fn pair(&mut self, key: &str, value: Option<impl Display>) -> io::Result<()> {
        value.map_or(Ok(()), |value| write!(self.out, " {key}={value}"))
    }

    fn quoted(&mut self, key: &str, value: Option<Text<'_>>) -> io::Result<()> {
        let Some(value) = value else { return Ok(()) };
        write!(self.out, " {key}=\"")?;
        for char in value.chars() {
            match char {
                '\'' => self.out.push(b'\''),
                char => write!(self.out, "{}", char.escape_debug())?,
            }
        }
        self.out.push(b'"');
        Ok(())
    }
}
