//! Frames as text, for failures: read by offset, with no help from the router's parsers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::packet::naive_checksum;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) << 8 | u16::from(bytes[at + 1])
}

fn dotted(bytes: &[u8]) -> String {
    format!("{}.{}.{}.{}", bytes[0], bytes[1], bytes[2], bytes[3])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One line for each field.
#[must_use]
pub fn decode(frame: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    if frame.len() < 14 {
        lines.push(format!("short {}", hex(frame)));
        return lines;
    }
    lines.push(format!("length    {}", frame.len()));
    lines.push(format!("eth dst   {}", hex(&frame[..6])));
    lines.push(format!("eth src   {}", hex(&frame[6..12])));
    lines.push(format!("ethertype {}", hex(&frame[12..14])));
    let rest = &frame[14..];
    match u16_at(frame, 12) {
        0x0806 if rest.len() >= 28 => {
            lines.push(format!("arp op    {}", u16_at(rest, 6)));
            lines.push(format!("arp sha   {}", hex(&rest[8..14])));
            lines.push(format!("arp spa   {}", dotted(&rest[14..18])));
            lines.push(format!("arp tha   {}", hex(&rest[18..24])));
            lines.push(format!("arp tpa   {}", dotted(&rest[24..28])));
        }
        0x0800 if rest.len() >= 20 => decode_ipv4(rest, &mut lines),
        _ => lines.extend(rest.chunks(16).map(hex)),
    }
    lines
}

fn decode_ipv4(ip: &[u8], lines: &mut Vec<String>) {
    let header = (usize::from(ip[0] & 15) * 4).clamp(20, ip.len());
    let checksum = if naive_checksum(&ip[..header]) == 0 {
        "good"
    } else {
        "BAD"
    };
    lines.push(format!("ip src    {}", dotted(&ip[12..16])));
    lines.push(format!("ip dst    {}", dotted(&ip[16..20])));
    lines.push(format!("ip ver/ihl {:02x} tos {:02x}", ip[0], ip[1]));
    lines.push(format!("ip length {}", u16_at(ip, 2)));
    lines.push(format!("ip id     {:04x}", u16_at(ip, 4)));
    let fragment = u16_at(ip, 6);
    lines.push(format!(
        "ip flags  {:x} offset {}",
        fragment >> 13,
        (fragment & 0x1fff) * 8
    ));
    lines.push(format!("ip ttl    {}", ip[8]));
    lines.push(format!("ip proto  {}", ip[9]));
    lines.push(format!("ip sum    {:04x} {checksum}", u16_at(ip, 10)));
    if header > 20 {
        lines.push(format!("ip opts   {}", hex(&ip[20..header])));
    }
    let rest = &ip[header..];
    let taken = match ip[9] {
        1 if rest.len() >= 8 => {
            let checksum = if naive_checksum(rest) == 0 {
                "good"
            } else {
                "BAD"
            };
            lines.push(format!(
                "icmp      {}/{} sum {}",
                rest[0], rest[1], checksum
            ));
            lines.push(format!("icmp rest {}", hex(&rest[4..8])));
            8
        }
        17 if rest.len() >= 8 => {
            lines.push(format!(
                "udp       {} > {} len {}",
                u16_at(rest, 0),
                u16_at(rest, 2),
                u16_at(rest, 4)
            ));
            8
        }
        6 if rest.len() >= 20 => {
            lines.push(format!(
                "tcp       {} > {} flags {:02x}",
                u16_at(rest, 0),
                u16_at(rest, 2),
                rest[13]
            ));
            lines.push(format!(
                "tcp seq   {} ack {}",
                hex(&rest[4..8]),
                hex(&rest[8..12])
            ));
            20
        }
        _ => 0,
    };
    lines.extend(rest[taken..].chunks(16).map(hex));
}

/// Two frames side by side; lines that differ are marked.
#[must_use]
pub fn diff(expected: &[u8], actual: &[u8]) -> String {
    let (left, right) = (decode(expected), decode(actual));
    let mut text = format!("  {:<48} {}\n", "expected", "actual");
    for n in 0..left.len().max(right.len()) {
        let l = left.get(n).map_or("", String::as_str);
        let r = right.get(n).map_or("", String::as_str);
        let mark = if l == r { ' ' } else { '!' };
        text += &format!("{mark} {l:<48} {r}\n");
    }
    text
}

/// What every emitted frame must be (INV-1): an Ethernet frame from a unicast station; if IPv4, with a verifying header
/// checksum, TTL of at least `min_ttl`, IHL of at least 5 and a total length equal to the bytes behind the Ethernet header.
///
/// # Errors
/// The rule that is broken.
pub fn check_emitted(frame: &[u8], min_ttl: u8) -> Result<(), String> {
    if frame.len() < 14 {
        return Err("shorter than an Ethernet header".to_string());
    }
    if frame[6] & 1 != 0 {
        return Err("source MAC is a group".to_string());
    }
    if u16_at(frame, 12) != 0x0800 {
        return Ok(());
    }
    let ip = &frame[14..];
    if ip.len() < 20 || ip[0] >> 4 != 4 || ip[0] & 15 < 5 || usize::from(ip[0] & 15) * 4 > ip.len()
    {
        return Err("impossible IPv4 header length".to_string());
    }
    if naive_checksum(&ip[..usize::from(ip[0] & 15) * 4]) != 0 {
        return Err("header checksum does not verify".to_string());
    }
    if ip[8] < min_ttl {
        return Err(format!("TTL {}", ip[8]));
    }
    if usize::from(u16_at(ip, 2)) != ip.len() {
        return Err(format!(
            "total length {} of {} bytes",
            u16_at(ip, 2),
            ip.len()
        ));
    }
    Ok(())
}
