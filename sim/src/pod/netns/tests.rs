use std::net::Ipv4Addr;
use std::path::Path;

use tap_bridge::sys::mount;

use super::*;
use crate::model::{PodLink, PodRoute, Scope};
use router_core::PortId;

fn link() -> PodLink {
    let gateway = Ipv4Addr::new(10, 244, 1, 1);
    let ip = Ipv4Addr::new(10, 244, 1, 2);
    PodLink {
        ifname: "eth0".into(),
        ifindex: 4,
        mac: Mac([0x52, 0xa1, 0x40, 0x3b, 0x54, 0x18]),
        mtu: 1500,
        addr: "10.244.1.2/24".parse().unwrap(),
        broadcast: Some(Ipv4Addr::new(10, 244, 1, 255)),
        bridge: None,
        by_hand: false,
        gateway,
        host_ifname: "vethfa21a27c".into(),
        host_ifindex: 5,
        host_mac: Mac([2, 0, 0, 0, 0, 1]),
        port: PortId(5),
        routes: vec![
            PodRoute {
                dst: "10.244.1.1/32".parse().unwrap(),
                via: None,
                src: Some(ip),
                scope: Scope::Link,
            },
            PodRoute {
                dst: "10.244.1.0/24".parse().unwrap(),
                via: Some(gateway),
                src: Some(ip),
                scope: Scope::Global,
            },
            PodRoute {
                dst: "0.0.0.0/0".parse().unwrap(),
                via: Some(gateway),
                src: None,
                scope: Scope::Global,
            },
        ],
        ipv6_link_local: false,
    }
}

fn plan(files: &Path, name: &str) -> Plan {
    let link = link();
    Plan {
        name: name.into(),
        hostname: name.into(),
        files: files.join(name),
        resolv: None,
        ifname: link.ifname.clone(),
        ifindex: link.ifindex,
        mac: link.mac,
        mtu: link.mtu,
        far: FarEnd {
            node: "node".into(),
            ifname: link.host_ifname.clone(),
            ifindex: Some(link.host_ifindex),
        },
        queues: 1,
        ipv6_link_local: link.ipv6_link_local,
        network: Network::of_pod(&link),
        node: None,
    }
}

/// Runs `work` with a workshop in namespaces of its own, once for each kind of interface, or says why that isn't permitted.
fn with_workshop(work: impl Fn(&Workshop, &Path) + Sync) {
    with_kind(Kind::Tap { device: None }, &work);
    with_kind(Kind::veth(), &work);
}

fn with_kind(kind: Kind, work: &(impl Fn(&Workshop, &Path) + Sync)) {
    let files = tempfile::tempdir().unwrap();
    let outcome = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                netns::isolate(&[Namespace::Mount, Namespace::Net])
                    .and_then(|()| mount::make_private())
                    .map_err(|error| error.to_string())?;
                let workshop = Workshop::open(kind, true, Arc::default())
                    .map_err(|error| error.to_string())?;
                match workshop.make(&[plan(files.path(), "probe")]) {
                    Ok(made) => close(made),
                    Err(error) if error.is_permission() => return Err(error.to_string()),
                    Err(error) => panic!("{error}"),
                }
                work(&workshop, files.path());
                Ok(())
            })
            .join()
            .unwrap()
    });
    if let Err(reason) = outcome {
        assert!(
            std::env::var_os("PODWIRE_REQUIRE_ALL").is_none(),
            "not permitted: {reason}"
        );
        eprintln!("SKIPPED: sandboxes are not permitted: {reason}");
    }
}

fn inside<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    netns::with_namespaces(
        &[
            (sandbox.mount().as_fd(), Namespace::Mount),
            (sandbox.uts().as_fd(), Namespace::Uts),
            (sandbox.net().as_fd(), Namespace::Net),
        ],
        work,
    )
    .unwrap()
}

/// Decisions 2 and 6: the pod sees its own name, interface, index, address and routes.
#[test]
fn a_pod_sees_only_itself() {
    with_workshop(|workshop, files| {
        let made = workshop
            .make(&[plan(files, "one"), plan(files, "two")])
            .unwrap();
        assert_eq!(made.len(), 2);
        inside(&made[1], || {
            assert_eq!(fs::read_to_string("/etc/hostname").unwrap(), "two\n");
            assert_eq!(rustix::system::uname().nodename().to_str(), Ok("two"));
            let mut names: Vec<_> = fs::read_dir("/sys/class/net")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name == "lo" || name == "eth0")
                .collect();
            names.sort();
            assert_eq!(names, ["eth0", "lo"]);
            let attribute = |name: &str| {
                let text = fs::read_to_string(format!("/sys/class/net/eth0/{name}")).unwrap();
                text.trim().to_owned()
            };
            assert_eq!(attribute("ifindex"), "4");
            assert_eq!(attribute("address"), "52:a1:40:3b:54:18");
            assert_eq!(attribute("mtu"), "1500");
            // Of a veth the kernel notes it a moment after it has the carrier.
            let operstate = (0..2000).find(|_| {
                std::thread::yield_now();
                attribute("operstate") == "up"
            });
            assert!(operstate.is_some(), "{}", attribute("operstate"));
            let routes = fs::read_to_string("/proc/thread-self/net/route").unwrap();
            // Default, podCIDR and gateway; no connected route.
            assert_eq!(routes.lines().count(), 4, "{routes}");
            assert!(
                !Path::new("/proc/thread-self/net/if_inet6").exists()
                    || fs::read_to_string("/proc/thread-self/net/if_inet6")
                        .unwrap()
                        .is_empty()
            );
            let arp = fs::read_to_string("/proc/thread-self/net/arp").unwrap();
            assert!(arp.contains("02:00:00:00:00:01"), "{arp}");
            std::net::UdpSocket::bind("10.244.1.2:0").unwrap();
        });
        close(made);
        assert!(!files.join("two").exists());
    });
}

/// A wrong plan makes nothing, and the others that were made with it are gone again.
#[test]
fn one_failure_undoes_all() {
    with_workshop(|workshop, files| {
        let mut plans: Vec<_> = (0..6).map(|n| plan(files, &format!("p{n}"))).collect();
        plans[3].ifname = "a/b".into();
        let error = workshop.make(&plans).unwrap_err();
        let text = error.to_string();
        let by_us = text.starts_with("p3: 'a/b' is no interface name");
        let by_the_kernel = text.starts_with("p3: make the pair a/b and ");
        assert!(by_us || by_the_kernel, "{text}");
        assert!(!error.is_permission());
        assert!((0..6).all(|n| !files.join(format!("p{n}")).exists()));
    });
}

/// The router's end of a veth is where the node's model says, in a namespace of the node's that does nothing of its own;
/// pods that are replaced under the same name don't meet; and it goes with its sandbox.
#[test]
fn the_routers_ends_are_the_nodes_and_silent() {
    let work = |workshop: &Workshop, files: &Path| {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let make = |name: &str| {
            let mut made = workshop.make(&[plan(files, name)]).unwrap();
            made.pop().unwrap()
        };
        let (old, new) = (make("same"), make("same"));
        let mut other = plan(files, "other");
        other.far.node = "another".into();
        let other = workshop.make(&[other]).unwrap().pop().unwrap();
        let end = |sandbox: &Sandbox| match sandbox.router_end() {
            Some(RouterEnd::Packet {
                namespace, ifindex, ..
            }) => (Arc::clone(namespace), *ifindex),
            end => panic!("{end:?}"),
        };
        let ((first, old_index), (second, new_index)) = (end(&old), end(&new));
        assert!(Arc::ptr_eq(&first, &second), "one for each node");
        assert_eq!((old_index, end(&other).1), (5, 5), "the model's");
        assert_ne!(new_index, 5);
        inside(&old, || {
            assert_eq!(read("/sys/class/net/eth0/iflink"), "5\n");
        });
        let names = |namespace: &OwnedFd| {
            let list = || {
                let table = read("/proc/thread-self/net/dev");
                let rows = table.lines().filter_map(|line| line.split_once(':'));
                let mut names: Vec<_> = rows.map(|(name, _)| name.trim().to_owned()).collect();
                names.sort();
                names.retain(|name| {
                    name == "lo" || name.contains("veth") || name.contains("podwire")
                });
                names
            };
            netns::with_namespaces(&[(namespace.as_fd(), Namespace::Net)], list).unwrap()
        };
        assert_eq!(names(&first), ["lo", "podwire2", "vethfa21a27c"]);
        netns::with_namespaces(&[(first.as_fd(), Namespace::Net)], || {
            assert_eq!(read("/proc/sys/net/ipv4/ip_forward"), "0\n");
            assert_eq!(read("/proc/thread-self/net/if_inet6"), "");
            assert!(!read("/proc/thread-self/net/route").contains("veth"));
        })
        .unwrap();
        close([old]);
        assert_eq!(names(&first), ["lo", "podwire2"]);
        close([new, other]);
        assert_eq!(names(&first), ["lo"]);
    };
    with_kind(Kind::veth(), &work);
}
