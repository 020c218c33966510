//! Labs come and go: side by side, killed in the middle, taken down twice. [`World`] checks that nothing is left.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Lab, Need, World, command_line, ended_by, eventually, find_key, kill, namespaces_of,
    runs_here,
};

fn answers(lab: &Lab<'_>, from: &str, to: &str) -> bool {
    lab.cmd(&["ping", from, to, "-c", "1", "-W", "1"])
        .status
        .success()
}

#[test]
fn down_leaves_nothing_and_can_be_said_twice() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    lab.run_pod("a", "minikube-m02");
    let namespaces = namespaces_of(&world.processes());
    assert!(
        !namespaces.is_empty(),
        "pods and nodes have network namespaces"
    );
    lab.down().ok();
    assert_eq!(
        world.processes(),
        [0_u32; 0],
        "down returns when everything is gone"
    );
    world.assert_nothing_left(&namespaces);
    lab.down().ok();
    world.podwire(&["down", "--all"]).ok();
}

#[test]
fn down_in_process_leaves_nothing() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    lab.down().ok();
    assert_eq!(
        world.processes(),
        [0_u32; 0],
        "down returns when everything is gone"
    );
    world.assert_nothing_left(&Default::default());
}

/// Two labs with the same addresses: a server in one is not there in the other (INV-12).
#[test]
fn two_labs_with_the_same_addresses_do_not_hear_each_other() {
    if !runs_here(&[Need::Tap, Need::Tool("curl"), Need::Tool("python3")]) {
        return;
    }
    let world = World::new();
    let labs = [world.lab("x"), world.lab("y")];
    for lab in &labs {
        world
            .podwire(&[
                "up",
                "--name",
                &lab.name,
                "--preset",
                "kindnet",
                "--backend",
                "tap",
            ])
            .ok();
        lab.run_pod("a", "minikube-m02");
        lab.run_pod("c", "minikube-m03");
    }
    for lab in &labs {
        assert_eq!(lab.ip_of("c"), "10.244.2.2");
        lab.cmd(&["ping", "a", "c", "-c", "1"]).ok();
    }
    let _server = labs[0].spawn(&["exec", "c", "--", "python3", "-m", "http.server", "8000"]);
    let curl = [
        "exec",
        "a",
        "--",
        "curl",
        "-sS",
        "-m",
        "10",
        "--retry",
        "30",
        "--retry-connrefused",
        "--retry-delay",
        "1",
        "-o",
        "/dev/null",
        "http://10.244.2.2:8000/",
    ];
    labs[0].cmd(&curl).ok();
    labs[1]
        .cmd(&[
            "exec",
            "a",
            "--",
            "curl",
            "-sS",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "http://10.244.2.2:8000/",
        ])
        .fails(7, &[]);

    // With two labs running, a command that names none has to ask which.
    let output = world.podwire(&["get", "nodes"]);
    assert_eq!(output.status.code(), Some(2), "{output}");
    let ps = world.podwire(&["ps"]).ok();
    for lab in &labs {
        assert!(ps.stdout.contains(&lab.name), "{ps}");
    }
    labs[0].down().ok();
    labs[1].cmd(&["ping", "a", "c", "-c", "1"]).ok();
}

fn a_killed_node_comes_back(world: &World, backend: &str) {
    let lab = world.up(&["--preset", "kindnet", "--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("b", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    lab.cmd(&["ping", "a", "c", "-c", "1"]).ok();
    let before = lab.out(&["ip", "-n", "minikube-m02", "a"]);
    let pid = lab.node_pid("minikube-m02");
    assert!(
        command_line(pid).contains("minikube-m02"),
        "ps shows the node: {}",
        command_line(pid)
    );
    kill(pid, Signal::KILL);
    eventually(Duration::from_secs(10), "the node to forward again", || {
        (answers(&lab, "a", "c") && answers(&lab, "a", "b")).then_some(())
    });
    assert_ne!(lab.node_pid("minikube-m02"), pid);
    let json = lab
        .cmd(&["get", "nodes", "minikube-m02", "-o", "json"])
        .ok()
        .json();
    assert_eq!(
        find_key(&json, "restarts").and_then(|v| v.as_u64()),
        Some(1),
        "{json:#}"
    );
    assert_eq!(
        lab.out(&["ip", "-n", "minikube-m02", "a"])
            .replace("sec", ""),
        lab_lease(&before, &lab)
    );
}

/// The same text with the lease time of now: it runs on while a node restarts.
fn lab_lease(before: &str, lab: &Lab<'_>) -> String {
    let now = lab.out(&["ip", "-n", "minikube-m02", "a"]);
    let lease = |text: &str| {
        text.lines()
            .find(|l| l.contains("valid_lft") && l.contains("sec"))
            .map(str::to_owned)
    };
    match (lease(before), lease(&now)) {
        (Some(old), Some(new)) => before.replace(&old, &new).replace("sec", ""),
        _ => before.replace("sec", ""),
    }
}

/// Decision 10: the pods keep their devices and don't notice but for lost packets.
#[test]
fn a_killed_node_comes_back_with_its_pods() {
    if !runs_here(&[Need::Tap, Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    a_killed_node_comes_back(&world, "tap");
    // The same device: its index and address were not touched.
    let lab = world.lab("");
    lab.cmd(&["exec", "a", "--", "ip", "-br", "-4", "addr", "show", "eth0"])
        .ok()
        .says("10.244.1.2/24");
}

/// The sockets are the daemon's as well.
#[test]
fn a_killed_node_comes_back_with_its_veths() {
    if !runs_here(&[Need::Packet, Need::Tool("ip")]) {
        return;
    }
    let world = World::new();
    a_killed_node_comes_back(&world, "packet");
    let lab = world.lab("");
    lab.cmd(&["exec", "a", "--", "ip", "-br", "-4", "addr", "show", "eth0"])
        .ok()
        .says("eth0@if")
        .says("10.244.1.2/24");
}

#[test]
fn a_killed_node_comes_back_in_process() {
    let world = World::new();
    a_killed_node_comes_back(&world, "inproc");
}

fn a_killed_daemon_takes_everything_with_it(backend: &str) {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    let namespaces = namespaces_of(&world.processes());
    kill(lab.daemon_pid("minikube"), Signal::KILL);
    eventually(Duration::from_secs(5), "every process to be gone", || {
        world.processes().is_empty().then_some(())
    });
    // Files go with the next up or down (decision 1).
    lab.down().ok();
    world.assert_nothing_left(&namespaces);
    // And the name is free again.
    world.up(&["--preset", "kindnet", "--backend", backend]);
}

#[test]
fn a_killed_daemon_takes_everything_with_it_on_packet() {
    if runs_here(&[Need::Packet]) {
        a_killed_daemon_takes_everything_with_it("packet");
    }
}

#[test]
fn a_killed_daemon_takes_everything_with_it_on_tap() {
    if runs_here(&[Need::Tap]) {
        a_killed_daemon_takes_everything_with_it("tap");
    }
}

#[test]
fn a_killed_daemon_takes_everything_with_it_in_process() {
    a_killed_daemon_takes_everything_with_it("inproc");
}

/// Ctrl-C while `up` works: as soon as a process of the lab is seen, and again a little later in the bring-up.
#[test]
fn ctrl_c_during_up_leaves_nothing() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    for (i, processes) in [1, 2, 4, 12].into_iter().enumerate() {
        let lab = world.lab(&format!("-{i}"));
        let up = crate::harness::Background::start(world.command(&[
            "up",
            "--name",
            &lab.name,
            "--preset",
            "kindnet",
            "--nodes",
            "40",
            "--backend",
            "tap",
        ]));
        let client = up.pid();
        // The client itself is one of them: wait for others.
        eventually(DEADLINE, "the bring-up to begin", || {
            let others = world.processes().iter().filter(|&&p| p != client).count();
            (others >= processes || !std::path::Path::new(&format!("/proc/{client}/exe")).exists())
                .then_some(())
        });
        let namespaces = namespaces_of(&world.processes());
        up.signal(Signal::INT);
        let (status, text) = up.finish(DEADLINE);
        assert!(
            ended_by(status, Signal::INT) || status.success(),
            "interrupted, or just done: {status}: {text}"
        );
        if status.success() {
            lab.down().ok();
        }
        eventually(Duration::from_secs(10), "every process to be gone", || {
            world.processes().is_empty().then_some(())
        });
        lab.down().ok();
        world.assert_nothing_left(&namespaces);
    }
}

/// `up` again converges: what is there stays, what is new comes.
#[test]
fn up_on_a_running_lab_converges() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    let pid = lab.node_pid("minikube");
    let veths = lab.out(&["ip", "-n", "minikube", "route"]);
    world
        .podwire(&[
            "up",
            "--name",
            &lab.name,
            "--preset",
            "kindnet",
            "--nodes",
            "4",
            "--backend",
            "inproc",
        ])
        .ok();
    assert_eq!(
        lab.node_pid("minikube"),
        pid,
        "a node that stays is not restarted"
    );
    assert_eq!(lab.out(&["get", "nodes", "-o", "name"]).lines().count(), 4);
    let now = lab.out(&["ip", "-n", "minikube", "route"]);
    for line in veths.lines() {
        assert!(now.contains(line), "{line} is still in\n{now}");
    }
    assert!(
        now.contains("10.244.3.0/24 via 172.16.30.6 dev eth0"),
        "{now}"
    );
}

/// A node joins and leaves while pods talk (KND-1, KND-3).
#[test]
fn nodes_join_and_leave_a_running_lab() {
    let backend = match (Need::Tap.is_met(), Need::Packet.is_met()) {
        (true, _) => "tap",
        (_, true) => "packet",
        _ => "inproc",
    };
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", backend]);
    lab.run_pod("a", "minikube-m02");
    lab.cmd(&["node", "add", "minikube-m04"]).ok();
    let route = "10.244.3.0/24 via 172.16.30.6 dev eth0";
    let peers = ["minikube", "minikube-m02", "minikube-m03"];
    for node in peers {
        eventually(
            Duration::from_secs(15),
            "the peers to have a route to the new node",
            || {
                lab.out(&["ip", "-n", node, "route"])
                    .contains(route)
                    .then_some(())
            },
        );
    }
    lab.run_pod("d", "minikube-m04");
    assert_eq!(lab.ip_of("d"), "10.244.3.2");
    lab.cmd(&["ping", "a", "d", "-c", "1"]).ok().says("ttl=62");
    lab.cmd(&["ping", "d", "a", "-c", "1"]).ok().says("ttl=62");

    let pid = lab.node_pid("minikube-m04");
    lab.cmd(&["node", "delete", "minikube-m04"]).ok();
    assert_eq!(lab.out(&["get", "nodes", "-o", "name"]).lines().count(), 3);
    assert!(!lab.out(&["get", "pods", "-o", "name"]).contains("pod/d"));
    eventually(Duration::from_secs(5), "its process to end", || {
        command_line(pid).is_empty().then_some(())
    });
    for node in peers {
        eventually(
            Duration::from_secs(15),
            "the route to the old node to go",
            || {
                (!lab
                    .out(&["ip", "-n", node, "route"])
                    .contains("10.244.3.0/24"))
                .then_some(())
            },
        );
    }
    lab.cmd(&["ping", "a", "node/minikube-m03", "-c", "1"]).ok();
}
