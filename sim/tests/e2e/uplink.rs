//! A node's port on an interface of the host: a machine with a LAN, on which a plain kernel is another host.
//!
//! Both are network namespaces of the test's own; nothing of the host's is touched.

use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    Background, DEADLINE, Lab, Need, Output, World, eventually, find_tool, kill, run, runs_here,
};

const NEEDS: [Need; 4] = [
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("nsenter"),
    Need::Tool("unshare"),
];

/// A network namespace that lives as long as its process.
struct Namespace(Background);

impl Namespace {
    fn make() -> Self {
        let mut command = Command::new(find_tool("unshare").unwrap());
        command.args(["--net", "sh", "-c", "echo here; exec sleep 600"]);
        let mut holder = Background::start(command);
        holder.wait_for_line("here");
        Self(holder)
    }

    fn path(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.0.pid())
    }

    /// The same command in there.
    fn inside(&self, command: &Command) -> Command {
        let mut entered = Command::new(find_tool("nsenter").unwrap());
        entered.arg(self.path()).arg("--");
        entered.arg(command.get_program()).args(command.get_args());
        entered.env_clear();
        let env = command.get_envs();
        entered.envs(env.filter_map(|(key, value)| Some((key, value?))));
        entered
    }

    fn run(&self, words: &str) -> Output {
        let mut words = words.split_whitespace();
        let mut command = Command::new(find_tool(words.next().unwrap()).unwrap());
        command.args(words);
        run(self.inside(&command), DEADLINE)
    }
}

/// A machine whose lan0 leads to a host with 192.0.2.1. None, said as a skip, where there can be none.
fn machine() -> Option<(Namespace, Namespace)> {
    if !runs_here(&NEEDS) {
        return None;
    }
    let (machine, outside) = (Namespace::make(), Namespace::make());
    let far = outside.0.pid();
    machine
        .run(&format!(
            "ip link add lan0 type veth peer name eth0 netns {far}"
        ))
        .ok();
    for (place, words) in [
        (&machine, "ip link set lo up"),
        (&machine, "ip link set lan0 up"),
        (&outside, "ip link set lo up"),
        (&outside, "ip link set eth0 up"),
        (&outside, "ip addr add 192.0.2.1/24 dev eth0"),
    ] {
        place.run(words).ok();
    }
    Some((machine, outside))
}

const LAB: &str = "
apiVersion: podwire/v1
kind: Lab
preset: kindnet
systemPods: false
nodes:
- {name: one, uplink: {interface: lan0, address: 192.0.2.10/24, gateway: 192.0.2.1}}
- {name: two}
pods:
- {name: a, node: one, ports: ['80:8000/tcp']}
- {name: b, node: two}
";

fn up(world: &World, machine: &Namespace, lab: &Lab<'_>, words: &[&str]) -> Output {
    let all = [&["up", "--name", &lab.name][..], words].concat();
    run(machine.inside(&world.command(&all)), DEADLINE)
}

/// Pods reach the world outside, masqueraded; the world reaches the node and what is behind its host port; and the interface
/// is as it was.
fn the_world_outside_is_reached(backend: &str) {
    if !runs_here(&[Need::Packet, Need::Tool("python3"), Need::Tool("curl")]) {
        return;
    }
    let Some((machine, outside)) = machine() else {
        return;
    };
    let world = World::new();
    let lab = world.lab("");
    let before = machine.run("ip -d link show lan0").ok().stdout;
    let file = world.file("lab.yaml", LAB);
    up(&world, &machine, &lab, &["--backend", backend, "-f", &file]).ok();
    // A veth has no filter for one more MAC.
    let during = machine.run("ip -d link show lan0").ok().stdout;
    assert_eq!(during, before.replace("promiscuity 0", "promiscuity 1"));
    lab.shows(
        &["ip", "-n", "one", "route", "show", "dev", "uplink"],
        "\
default via 192.0.2.1 proto static
192.0.2.0/24 proto kernel scope link src 192.0.2.10",
    );
    for from in ["a", "node/one"] {
        lab.cmd(&["ping", from, "192.0.2.1", "-c", "1"])
            .ok()
            .says(if from == "a" { "ttl=63" } else { "ttl=64" });
    }
    outside
        .run("ping -n -c 1 -W 5 192.0.2.10")
        .ok()
        .says("ttl=64");
    // Nobody outside knows of pods, and nothing of the machine answers in the node's place.
    outside
        .run("ip route add 10.244.0.0/16 via 192.0.2.10")
        .ok();
    let pod = lab.ip_of("a");
    outside
        .run(&format!("ping -n -c 1 -W 5 {pod}"))
        .ok()
        .says("ttl=63");

    if backend != "inproc" {
        let body = "podwire ".repeat(200_000);
        world.file("page", &body);
        let server = |command: Command| {
            let mut server = Background::start(command);
            server.wait_for_line("Serving HTTP");
            server
        };
        let directory = world.path("");
        let serve = |port: &str| {
            let mut command = Command::new("python3");
            command.args(["-u", "-m", "http.server", port, "--directory"]);
            command.arg(&directory);
            command
        };
        let theirs = server(outside.inside(&serve("8080")));
        let fetch = ["curl", "-sS", "-m", "30", "http://192.0.2.1:8080/page"];
        for from in ["a", "b", "node/one"] {
            let words = [&["exec", from, "--"], &fetch[..]].concat();
            if from == "b" {
                // Its node has no uplink: it goes to the simulated internet, which knows no such address.
                assert!(
                    !lab.cmd(&[&words[..5], &["-m", "1", fetch[4]]].concat())
                        .status
                        .success()
                );
                continue;
            }
            assert!(lab.cmd(&words).ok().stdout == body, "{from}");
        }
        drop(theirs);
        let ours = serve("8000");
        let mut words = vec!["exec".to_owned(), "a".to_owned(), "--".to_owned()];
        words.push("python3".into());
        words.extend(ours.get_args().map(|arg| arg.to_str().unwrap().to_owned()));
        let mut ours = lab.spawn(&words);
        ours.wait_for_line("Serving HTTP");
        let fetched = outside.run("curl -sS -m 30 http://192.0.2.10/page").ok();
        assert!(fetched.stdout == body, "by the host port");
        kill(lab.node_pid("one"), Signal::KILL);
        eventually(DEADLINE, "the node to be back on its uplink", || {
            let fetched = outside.run("curl -sS -m 5 http://192.0.2.10/page");
            (fetched.stdout == body).then_some(())
        });
    }
    let again = up(&world, &machine, &lab, &["-f", &file, "--backend", backend]);
    again.ok();
    let other = world.file("other.yaml", &LAB.replace("192.0.2.10/24", "192.0.2.11/24"));
    let words = ["--backend", backend, "-f", &other];
    up(&world, &machine, &lab, &words).fails(3, &["node one: uplinks can't be changed while"]);
    lab.down().ok();
    let after = machine.run("ip -d link show lan0").ok().stdout;
    assert_eq!(before, after);
}

#[test]
fn the_world_outside_is_reached_from_taps() {
    if runs_here(&[Need::Tap]) {
        the_world_outside_is_reached("tap");
    }
}

#[test]
fn the_world_outside_is_reached_from_veths() {
    the_world_outside_is_reached("packet");
}

#[test]
fn the_world_outside_is_reached_from_stacks_in_process() {
    the_world_outside_is_reached("inproc");
}

/// Nothing is made when an uplink can't be had, and it is said which and why.
#[test]
fn an_uplink_that_cannot_be_had_is_refused() {
    let Some((machine, _outside)) = machine() else {
        return;
    };
    let world = World::new();
    let lab = world.lab("");
    machine
        .run("ip link add idle0 type veth peer name idle1")
        .ok();
    machine.run("ip link set lan0 mtu 1400").ok();
    for (interface, why) in [
        (
            "lan7",
            "there is no such interface here (No such device (os error 19)); there are ",
        ),
        ("lo", "it carries no Ethernet frames"),
        ("idle0", "it is down: `ip link set idle0 up` first"),
        (
            "lan0",
            "its MTU is 1400, the uplink's 1500: say `mtu: 1400`",
        ),
    ] {
        let file = world.file("lab.yaml", &LAB.replace("lan0", interface));
        let words = ["--backend", "inproc", "-f", &file];
        let said = format!("node one: uplink on {interface}: {why}");
        up(&world, &machine, &lab, &words).fails(4, &[&said]);
    }
    assert_eq!(world.processes(), [0_u32; 0]);
    machine.run("ip link set lan0 mtu 1500").ok();
    let Some(world) = World::ordinary_user(false) else {
        return;
    };
    let lab = world.lab("");
    let file = world.file("lab.yaml", LAB);
    let words = ["up", "--name", &lab.name, "-f", &file];
    let mut command = Command::new(find_tool("setpriv").unwrap());
    command.args(["--reuid=54321", "--regid=54321", "--clear-groups"]);
    let own = world.command(&words);
    command.arg(own.get_program()).args(own.get_args());
    command.env_clear();
    command.envs(own.get_envs().filter_map(|(k, v)| Some((k, v?))));
    run(machine.inside(&command), DEADLINE).fails(
        4,
        &[
            "node one: uplink on lan0: packet socket: open: ",
            "CAP_NET_RAW",
        ],
    );
}
