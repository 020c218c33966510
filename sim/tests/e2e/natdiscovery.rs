//! What a STUN client finds out about a node's masquerade is what it finds out about the kernel's (RFC 5780).
//!
//! coturn's server needs two addresses and real sockets, which the simulated internet has not: it runs in another node's
//! host namespace, outside of the cluster's addresses like everything behind the gateway, and that node has a second
//! address. The kernel's side is the same in three namespaces with iptables' MASQUERADE, with the same addresses.

use std::process::Command;
use std::time::Duration;

use crate::harness::{DEADLINE, Lab, Need, World, eventually, run, runs_here};

const NEEDS: [Need; 8] = [
    Need::Tap,
    Need::Root,
    Need::Tool("turnserver"),
    Need::Tool("turnutils_natdiscovery"),
    Need::Tool("iptables"),
    Need::Tool("ip"),
    Need::Tool("ss"),
    Need::Tool("unshare"),
];

/// All namespaces are named in a /run of their own, and gone with the script.
const KERNEL: &str = r#"
set -e
mount -t tmpfs none /run
mkdir /run/netns
for n in in nat out; do ip netns add $n; ip -n $n link set lo up; done
ip -n in link add eth0 type veth peer name pod netns nat
ip -n nat link add eth0 type veth peer name eth0 netns out
ip -n in addr add 10.244.0.2/24 dev eth0
ip -n nat addr add 10.244.0.1/24 dev pod
ip -n nat addr add 172.16.30.3/24 dev eth0
ip -n out addr add 172.16.30.4/24 dev eth0
ip -n out addr add 172.16.30.50/24 dev eth0
ip -n in link set eth0 up
ip -n nat link set pod up
ip -n nat link set eth0 up
ip -n out link set eth0 up
ip -n in route add default via 10.244.0.1
ip netns exec nat sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
ip netns exec nat iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
ip netns exec out SERVER > /run/log 2>&1 &
server=$!
trap 'kill $server' EXIT
until ip netns exec out ss -Hlun | grep -q 172.16.30.50:3479; do kill -0 $server; sleep 0.02; done
ip netns exec in turnutils_natdiscovery -m -f -L 10.244.0.2 -l 4000 172.16.30.4
"#;

/// A STUN server that can answer from its other address and port.
fn server(world: &World, name: &str) -> Vec<String> {
    let file = |end: &str| format!("{}", world.path(&format!("{name}.{end}")).display());
    let mut words: Vec<String> = "turnserver -n -S -z --no-cli --no-tls --no-dtls --alt-listening-port 3479 -L 172.16.30.4 -L 172.16.30.50 -l stdout"
        .split(' ')
        .map(str::to_owned)
        .collect();
    words.extend([
        "--pidfile".to_owned(),
        file("pid"),
        "--userdb".to_owned(),
        file("db"),
    ]);
    words
}

/// Behaviour in its words; and, for each answer, the address that the server saw and whether the port was kept (the ports
/// themselves are the client's choice in part).
fn findings(output: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut seen = None;
    for line in output.lines() {
        let address = line
            .rsplit_once(' ')
            .and_then(|(_, word)| word.split_once(':'));
        if line.ends_with('!') {
            found.push(line.to_owned());
        } else if line.contains("reflexive addr") {
            seen = address;
        } else if let (Some((ip, port)), true) = (seen, line.contains("Local addr")) {
            let kept = address.is_some_and(|(_, local)| local == port);
            found.push(format!("seen as {ip}, port kept: {kept}"));
        }
    }
    found
}

fn through_the_node(lab: &Lab<'_>) -> String {
    let other = [
        "ip",
        "-n",
        "minikube-m02",
        "addr",
        "add",
        "172.16.30.50/24",
        "dev",
        "eth0",
    ];
    lab.cmd(&other).ok();
    let server = server(lab.world, "podwire");
    let mut words = vec!["exec", "node/minikube-m02", "--"];
    words.extend(server.iter().map(String::as_str));
    let _server = lab.spawn(&words);
    eventually(DEADLINE, "the STUN server to listen", || {
        let listening = lab.out(&["exec", "node/minikube-m02", "--", "ss", "-Hlun"]);
        listening.contains("172.16.30.50:3479").then_some(())
    });
    let address = lab.ip_of("a");
    let client = [
        "exec",
        "a",
        "--",
        "turnutils_natdiscovery",
        "-m",
        "-f",
        "-L",
        &address,
        "-l",
        "4000",
        "172.16.30.4",
    ];
    lab.out(&client)
}

/// NAT-11, NAT-13, NAT-14: coturn's natdiscovery finds the same mapping and filtering behind a node as behind a Linux
/// kernel, and the same address and port.
#[test]
fn natdiscovery_finds_what_it_finds_behind_a_kernel() {
    if !runs_here(&NEEDS) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--backend", "tap", "--preset", "kindnet"]);
    lab.run_pod("a", "minikube");
    let script = KERNEL.replace("SERVER", &server(&world, "kernel").join(" "));
    let kernel = std::thread::spawn(move || {
        let mut command = Command::new("unshare");
        command.args(["-nm", "sh", "-c", &script]);
        run(command, Duration::from_secs(60)).ok().stdout
    });
    let ours = through_the_node(&lab);
    let kernel = kernel.join().expect("the kernel's side works");
    let found = findings(&kernel);
    let seen = "seen as 172.16.30.3, port kept: true";
    let expected = [
        seen,
        seen,
        "NAT with Endpoint Independent Mapping!",
        seen,
        "NAT with Address and Port Dependent Filtering!",
    ];
    assert_eq!(found, expected, "behind the kernel:\n{kernel}");
    assert_eq!(findings(&ours), found, "behind the node:\n{ours}");
}
