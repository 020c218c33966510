//! `ip neigh add|del|change|replace|flush`.
//!
//! PERMANENT entries are configuration and kept here. Learned ones live in the node's router: `del` and `flush` tell it to
//! forget them, and `del` of an address that it doesn't know succeeds.

use std::net::Ipv4Addr;

use router_core::Mac;

use super::words::{Words, abbreviates, garbage, wrong};
use super::{Flush, Permanent, find_dev, unknown_command};
use crate::cluster::IpError;
use crate::model::Node;

struct Written {
    ip: Option<Ipv4Addr>,
    dev: Option<String>,
    mac: Option<Mac>,
    all: bool,
}

pub(super) fn apply(
    node: &Node,
    permanent: &mut Permanent,
    command: &str,
    words: Words<'_>,
) -> Result<Vec<Flush>, IpError> {
    if abbreviates(command, "flush") {
        return flush(node, words);
    }
    let (create, replace) = match command {
        _ if abbreviates(command, "add") => (true, false),
        _ if abbreviates(command, "change") || command == "chg" => (false, true),
        _ if abbreviates(command, "replace") => (true, true),
        _ if abbreviates(command, "delete") => return delete(node, permanent, words),
        _ => return Err(unknown_command("neigh", command)),
    };
    let (ip, dev, mac) = complete(node, parse(words)?)?;
    let mac = mac.ok_or_else(|| IpError::kernel("Error: No link layer address given."))?;
    let at = permanent
        .iter()
        .position(|(other, addr, _)| *other == dev && *addr == ip);
    match at {
        Some(_) if !replace => return Err(IpError::rtnetlink("File exists")),
        Some(at) => permanent[at].2 = mac,
        None if !create => return Err(IpError::rtnetlink("No such file or directory")),
        None => permanent.push((dev, ip, mac)),
    }
    Ok(Vec::new())
}

fn parse(mut words: Words<'_>) -> Result<Written, IpError> {
    let mut written = Written {
        ip: None,
        dev: None,
        mac: None,
        all: false,
    };
    while let Some(word) = words.next() {
        match word {
            "lladdr" => {
                let word = words.value()?;
                let mac = word.parse().map_err(|_| {
                    if word.contains(':') {
                        IpError::kernel("Error: Invalid link address.")
                    } else {
                        IpError::usage(format!("\"{word}\" is invalid lladdr."))
                    }
                })?;
                written.mac = Some(mac);
            }
            "nud" => match words.value()? {
                "permanent" => {}
                "none" | "noarp" | "reachable" | "stale" | "delay" | "probe" | "failed"
                | "incomplete" => return Err(IpError::rtnetlink("Operation not supported")),
                word => {
                    let mut error = wrong(word, "nud state is bad");
                    error.message.truncate(error.message.trim_end().len());
                    return Err(error);
                }
            },
            "permanent" => {}
            "dev" => written.dev = Some(words.value()?.to_owned()),
            "all" | "any" | "default" => written.all = true,
            _ => {
                let word = if word == "to" { words.value()? } else { word };
                if written.ip.is_some() {
                    return Err(garbage("to", word));
                }
                written.ip = Some(super::words::address(word).ok_or_else(|| {
                    IpError::usage(format!(
                        "Error: any valid address is expected rather than \"{word}\"."
                    ))
                })?);
            }
        }
    }
    Ok(written)
}

fn complete(node: &Node, written: Written) -> Result<(Ipv4Addr, String, Option<Mac>), IpError> {
    let (Some(ip), Some(dev)) = (written.ip, written.dev) else {
        return Err(IpError {
            message: "Device and destination are required arguments.".into(),
            status: 255,
        });
    };
    find_dev(node, &dev)?;
    Ok((ip, dev, written.mac))
}

fn delete(node: &Node, permanent: &mut Permanent, words: Words<'_>) -> Result<Vec<Flush>, IpError> {
    let (ip, dev, _) = complete(node, parse(words)?)?;
    let port = find_dev(node, &dev)?.port;
    permanent.retain(|(other, addr, _)| *other != dev || *addr != ip);
    Ok(vec![Flush { port, ip: Some(ip) }])
}

fn flush(node: &Node, words: Words<'_>) -> Result<Vec<Flush>, IpError> {
    if words.peek().is_none() {
        return Err(IpError::usage("Flush requires arguments."));
    }
    let written = parse(words)?;
    let port = match &written.dev {
        Some(dev) => match find_dev(node, dev)?.port {
            Some(port) => Some(port),
            None => return Ok(Vec::new()),
        },
        None => None,
    };
    let ip = written.ip.filter(|_| !written.all);
    Ok(vec![Flush { port, ip }])
}
