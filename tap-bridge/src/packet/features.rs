//! Which offloads the other end of a veth may leave to us.
//!
//! A veth claims every offload there is, because the kernel at its far end would do the work. Here that end is a packet socket,
//! and what the virtio-net header has no word for is lost on the way (packets in tunnels) or would be completed wrongly (the
//! CRC of SCTP). So the near end is told to do this itself.
//! Source: Linux `include/linux/virtio_net.h` (`virtio_net_hdr_from_skb`), `net/ethtool/common.c` for the names.

use std::io;

use crate::sys::ethtool;

/// Segmentation that the header has a word for.
const CARRIED: [&str; 6] = [
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    UDP,
];

const UDP: &str = "tx-udp-segmentation";

/// Linux that has a word for superframes of UDP.
const UDP_SINCE: (u32, u32) = (6, 2);

/// Switches off what an interface of the calling thread's namespace must not leave to a packet socket at the other end of the
/// pair; without `offload` every checksum and all segmentation.
///
/// # Errors
/// What [`ethtool::switch_off`] says.
pub fn restrict(interface: &str, offload: bool) -> io::Result<()> {
    let release = rustix::system::uname();
    let udp = version(&release.release().to_string_lossy()) >= UDP_SINCE;
    ethtool::switch_off(interface, |feature| is_unwanted(feature, offload, udp))?;
    Ok(())
}

fn is_unwanted(feature: &str, offload: bool, udp: bool) -> bool {
    let cut = feature.starts_with("tx-")
        && (feature.ends_with("-segmentation") || feature.starts_with("tx-gso-"));
    let checksum = feature.starts_with("tx-checksum-");
    if !offload {
        return cut || checksum;
    }
    // Not a feature of a device but what the kernel may trust a superframe with.
    let trust = feature == "tx-gso-robust";
    (cut && !trust && !CARRIED.contains(&feature))
        || (feature == UDP && !udp)
        || feature == "tx-checksum-sctp"
}

/// Major and minor number of a kernel's release; zero for what can't be read.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_header_has_no_word_for_is_done_by_the_sender() {
        let rows = [
            ("tx-tcp-segmentation", false, true),
            ("tx-tcp6-segmentation", false, true),
            ("tx-udp-segmentation", false, true),
            ("tx-udp_tnl-segmentation", true, true),
            ("tx-gre-csum-segmentation", true, true),
            ("tx-ipxip4-segmentation", true, true),
            ("tx-gso-list", true, true),
            ("tx-gso-partial", true, true),
            ("tx-gso-robust", false, true),
            ("tx-checksum-sctp", true, true),
            ("tx-checksum-ip-generic", false, true),
            ("tx-scatter-gather", false, false),
            ("rx-gro", false, false),
            ("rx-checksum", false, false),
        ];
        for (feature, with_offload, without) in rows {
            assert_eq!(is_unwanted(feature, true, true), with_offload, "{feature}");
            assert_eq!(is_unwanted(feature, false, true), without, "{feature}");
        }
        assert!(is_unwanted("tx-udp-segmentation", true, false));
        assert!(!is_unwanted("tx-tcp-segmentation", true, false));
    }

    #[test]
    fn releases_are_read_as_numbers() {
        assert_eq!(version("6.18.44-fc-v782"), (6, 18));
        assert_eq!(version("5.10.0"), (5, 10));
        assert_eq!(version("7"), (7, 0));
        assert_eq!(version("rolling"), (0, 0));
    }
}
