//! The words of a command line, read as iproute2 reads them.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::cluster::IpError;
use crate::model::{Proto, Scope};

/// True when `word` is a non-empty beginning of `whole`, which is how iproute2 lets words be shortened.
pub(super) fn abbreviates(word: &str, whole: &str) -> bool {
    !word.is_empty() && whole.starts_with(word)
}

/// What is left of a command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    rest: &'a [String],
}

impl<'a> Words<'a> {
    pub(super) fn new(args: &'a [String]) -> Self {
        Self { rest: args }
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub(super) fn peek(&self) -> Option<&'a str> {
        self.rest.first().map(String::as_str)
    }

    /// The value behind a keyword.
    pub(super) fn value(&mut self) -> Result<&'a str, IpError> {
        self.next().ok_or_else(|| IpError {
            message: "Command line is not complete. Try option \"help\"".into(),
            status: 255,
        })
    }

    pub(super) fn address(&mut self) -> Result<Ipv4Addr, IpError> {
        let word = self.value()?;
        address(word).ok_or_else(|| {
            IpError::usage(format!(
                "Error: inet address is expected rather than \"{word}\"."
            ))
        })
    }

    pub(super) fn number(&mut self, what: &str) -> Result<u32, IpError> {
        let word = self.value()?;
        word.parse()
            .map_err(|_| wrong(word, &format!("\"{what}\" value is invalid")))
    }

    pub(super) fn scope(&mut self) -> Result<Scope, IpError> {
        match self.value()? {
            "global" | "universe" | "0" => Ok(Scope::Global),
            "link" | "253" => Ok(Scope::Link),
            "host" | "254" => Ok(Scope::Host),
            word => Err(wrong(word, "invalid \"scope\" value")),
        }
    }

    pub(super) fn proto(&mut self) -> Result<Proto, IpError> {
        match self.value()? {
            "kernel" | "2" => Ok(Proto::Kernel),
            "boot" | "3" => Ok(Proto::Boot),
            "static" | "4" => Ok(Proto::Static),
            "bird" | "12" => Ok(Proto::Bird),
            "dhcp" | "16" => Ok(Proto::Dhcp),
            word => Err(wrong(word, "\"protocol\" value is invalid")),
        }
    }
}

/// `argument "x" is wrong`, which iproute2 ends with an empty line.
pub(super) fn wrong(word: &str, why: &str) -> IpError {
    IpError {
        message: format!("Error: argument \"{word}\" is wrong: {why}\n"),
        status: 255,
    }
}

/// A word that fits nowhere.
pub(super) fn garbage(expected: &str, word: &str) -> IpError {
    IpError {
        message: format!("Error: either \"{expected}\" is duplicate, or \"{word}\" is a garbage."),
        status: 255,
    }
}

/// One to four decimal octets; missing ones are zero, as iproute2 reads `10.9`.
pub(super) fn address(word: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = word.split('.');
    let mut count = 0;
    for octet in &mut octets {
        let Some(part) = parts.next() else { break };
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
        count += 1;
    }
    (count > 0 && parts.next().is_none()).then(|| octets.into())
}

/// `default`, an address, or an address with a length. The flag tells whether a length was given.
pub(super) fn prefix(word: &str) -> Result<(Ipv4Net, bool), IpError> {
    let bad = || {
        IpError::usage(format!(
            "Error: any valid prefix is expected rather than \"{word}\"."
        ))
    };
    if matches!(word, "default" | "all" | "any") {
        return Ok((Ipv4Net::default(), true));
    }
    let (addr, length) = word
        .split_once('/')
        .map_or((word, None), |(addr, length)| (addr, Some(length)));
    let addr = address(addr).ok_or_else(bad)?;
    let bits = match length {
        Some(length) => length.parse::<u8>().map_err(|_| bad())?,
        None => 32,
    };
    let net = Ipv4Net::new(addr, bits).map_err(|_| bad())?;
    Ok((net, length.is_some()))
}
