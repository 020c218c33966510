//! Host ports as the command line and lab files write them: `[ADDRESS:]HOST:POD[/PROTOCOL]`.

use std::net::Ipv4Addr;

use crate::kube::{ContainerPort, HostPort, Protocol};
use crate::lab::hint;

/// The ports of one word: one, or as many as its ranges have.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn parse(word: &str) -> Result<Vec<ContainerPort>, String> {
    let (ports, protocol) = match word.split_once('/') {
        Some((ports, name)) => (ports, protocol(name)?),
        None => (word, Protocol::Tcp),
    };
    let (ip, host, pod) = match ports.split(':').collect::<Vec<_>>()[..] {
        [host, pod] => (None, host, pod),
        [ip, host, pod] => (Some(address(ip)?), host, pod),
        _ => {
            return Err(format!(
                "\"{word}\" is no HOST:POD, a port of the node and one of the pod, such as 8080:80 or 8053:53/udp"
            ));
        }
    };
    let (host, pod) = (range(host, "of the node")?, range(pod, "of the pod")?);
    if host.1 - host.0 != pod.1 - pod.0 {
        return Err(format!(
            "\"{ports}\" maps {} port(s) of the node to {} of the pod",
            u32::from(host.1 - host.0) + 1,
            u32::from(pod.1 - pod.0) + 1
        ));
    }
    Ok((host.0..=host.1)
        .zip(pod.0..=pod.1)
        .map(|(host, port)| ContainerPort {
            name: None,
            port,
            protocol,
            host: Some(HostPort {
                ip,
                port: host,
                declared_at: None,
            }),
        })
        .collect())
}

fn protocol(name: &str) -> Result<Protocol, String> {
    let upper = name.to_ascii_uppercase();
    let found = Protocol::CHOICES.iter().find(|(word, _)| *word == upper);
    found.map(|(_, protocol)| *protocol).ok_or_else(|| {
        let hint = hint(&name.to_ascii_lowercase(), ["tcp", "udp", "sctp"]);
        format!("no protocol \"{name}\" with ports{hint}; there are tcp, udp and sctp")
    })
}

fn address(word: &str) -> Result<Ipv4Addr, String> {
    word.parse()
        .map_err(|_| format!("\"{word}\" is no IPv4 address of a node"))
}

/// First and last port.
fn range(word: &str, whose: &str) -> Result<(u16, u16), String> {
    let (first, last) = match word.split_once('-') {
        Some((first, last)) => (port(first, whose)?, port(last, whose)?),
        None => {
            let only = port(word, whose)?;
            (only, only)
        }
    };
    if first > last {
        return Err(format!("the range of ports {word} is reversed"));
    }
    Ok((first, last))
}

fn port(word: &str, whose: &str) -> Result<u16, String> {
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    word.parse()
        .ok()
        .filter(|port| digits && *port != 0)
        .ok_or_else(|| format!("\"{word}\" is no port {whose}: a number from 1 to 65535 is wanted"))
}
