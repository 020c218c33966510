//! The privilege ladder: the same lab as an ordinary uid with a tun device, and without one (decision 7).

use crate::harness::{Lab, Need, World, find_key, namespaces_of, runs_here};

fn backend_of(lab: &Lab<'_>) -> String {
    let ps = lab.world.podwire(&["ps", "-o", "json"]).ok().json();
    find_key(&ps, "backend")
        .and_then(|v| v.as_str())
        .unwrap_or_else(|| panic!("{ps:#}"))
        .to_owned()
}

#[test]
fn an_ordinary_user_gets_real_pods() {
    if !runs_here(&[Need::Tool("ping"), Need::Tool("ip")]) {
        return;
    }
    let Some(world) = World::ordinary_user(true) else {
        return;
    };
    let lab = world.up(&["--preset", "kindnet"]);
    assert_eq!(backend_of(&lab), "tap");
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    lab.cmd(&["ping", "a", "c", "-c", "1"]).ok().says("ttl=62");
    lab.cmd(&[
        "exec",
        "a",
        "--",
        "ping",
        "-n",
        "-c",
        "1",
        "-W",
        "5",
        "10.244.2.2",
    ])
    .ok()
    .says("ttl=62");
    lab.shows(
        &["exec", "a", "--", "ip", "route"],
        "\
default via 10.244.1.1 dev eth0
10.244.1.0/24 via 10.244.1.1 dev eth0 src 10.244.1.2
10.244.1.1 dev eth0 scope link src 10.244.1.2",
    );
    lab.shows(&["exec", "a", "--", "id", "-u"], "0");
    lab.cmd(&[
        "exec",
        "node/minikube",
        "--",
        "cat",
        "/etc/cni/net.mk/10-kindnet.conflist",
    ])
    .ok()
    .says("10.244.0.0/24");
    let namespaces = namespaces_of(&world.processes());
    assert!(!namespaces.is_empty());
    lab.down().ok();
    world.assert_nothing_left(&namespaces);
}

/// Decision 8: where the device is closed pods get veths, and the choice says why.
#[test]
fn a_closed_tun_device_means_veths() {
    if !runs_here(&[Need::Tool("ping"), Need::Tool("ip")]) {
        return;
    }
    let Some(world) = World::ordinary_user(false) else {
        return;
    };
    let lab = world.lab("");
    let output = world
        .podwire(&["up", "--name", &lab.name, "--preset", "kindnet"])
        .ok();
    assert_eq!(backend_of(&lab), "packet");
    let why = "tun can't be opened: permission denied) ";
    assert!(output.stderr.contains("back end packet (/"), "{output}");
    assert!(output.stderr.contains(why), "{output}");
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    lab.cmd(&["ping", "a", "c", "-c", "1"]).ok().says("ttl=62");
    lab.cmd(&[
        "exec",
        "a",
        "--",
        "ping",
        "-n",
        "-c",
        "1",
        "-W",
        "5",
        "10.244.2.2",
    ])
    .ok()
    .says("ttl=62");
    let doctor = world.podwire(&["doctor"]);
    assert!(
        doctor.stdout.contains("--backend auto picks packet: "),
        "{doctor}"
    );
    let namespaces = namespaces_of(&world.processes());
    assert!(!namespaces.is_empty());
    lab.down().ok();
    world.assert_nothing_left(&namespaces);
}

/// Where there are no namespaces either the choice falls on in-process pods, and says why.
#[test]
fn who_gets_no_namespaces_gets_in_process_pods() {
    let Some(world) = World::confined_user() else {
        return;
    };
    let lab = world.lab("");
    let output = world
        .podwire(&["up", "--name", &lab.name, "--preset", "kindnet"])
        .ok();
    assert_eq!(backend_of(&lab), "inproc");
    assert!(
        output
            .stderr
            .contains("back end inproc (a user namespace can't be made"),
        "{output}"
    );
    lab.run_pod("a", "minikube-m02");
    lab.run_pod("c", "minikube-m03");
    lab.cmd(&["ping", "a", "c", "-c", "1"]).ok().says("ttl=62");
    let doctor = world.podwire(&["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("--backend auto picks inproc: a user namespace"),
        "{doctor}"
    );
    for backend in ["tap", "packet"] {
        let words = ["up", "--name", &lab.name, "--backend", backend];
        let other = world.lab("other");
        let words = words.map(|word| {
            if word == lab.name {
                other.name.as_str()
            } else {
                word
            }
        });
        world.podwire(&words).fails(4, &["namespace", "inproc"]);
    }
}

#[test]
fn asking_for_tap_where_it_is_closed_names_the_permission() {
    let Some(world) = World::ordinary_user(false) else {
        return;
    };
    let lab = world.lab("");
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
        .fails(4, &["tun", "inproc"]);
    world.assert_nothing_left(&Default::default());
}

/// Another user's lab is not mine: neither its directory nor its socket can be used.
#[test]
fn a_lab_belongs_to_its_user() {
    let Some(owner) = World::ordinary_user(false) else {
        return;
    };
    let lab = owner.up(&["--preset", "kindnet"]);
    let mut command = owner.command(&lab.words(&["get", "pods", "-A"]));
    std::os::unix::process::CommandExt::uid(&mut command, 54_322);
    std::os::unix::process::CommandExt::gid(&mut command, 54_322);
    let output = crate::harness::run(command, crate::harness::DEADLINE);
    assert!(!output.status.success(), "{output}");
    assert!(!output.stdout.contains("coredns"), "{output}");
}

#[test]
fn doctor_explains_its_choice_as_text_and_as_json() {
    let world = World::new();
    let text = world.podwire(&["doctor"]);
    assert!(text.status.success(), "{text}");
    let json = world.podwire(&["doctor", "-o", "json"]).ok().json();
    let choice = best();
    assert!(
        json.to_string().contains(&format!("\"{choice}\"")),
        "{json:#}"
    );
    assert!(text.stdout.contains(choice), "{text}");
}

/// The best rung of the ladder for the user who runs the tests.
fn best() -> &'static str {
    let rungs = [(Need::Tap, "tap"), (Need::Packet, "packet")];
    let found = rungs.into_iter().find(|(need, _)| need.is_met());
    found.map_or("inproc", |(_, name)| name)
}

fn demo_shows_the_main_job(world: &World, backend: &str) {
    let output = world.podwire(&["demo"]).ok();
    let all = format!("{}{}", output.stdout, output.stderr);
    assert!(all.contains(backend), "{output}");
    for text in [
        "minikube-m03",
        "10.244.2.0/24 via 172.16.30.5 dev eth0",
        "42 of 42 pings answered",
    ] {
        assert!(all.contains(text), "demo should show {text}: {output}");
    }
    assert_eq!(world.processes(), [0_u32; 0]);
}

#[test]
fn demo_runs_with_what_the_machine_allows() {
    demo_shows_the_main_job(&World::new(), best());
}

#[test]
fn demo_runs_as_an_ordinary_user() {
    if let Some(world) = World::ordinary_user(true) {
        demo_shows_the_main_job(&world, "tap");
    }
}

#[test]
fn demo_runs_without_a_tun_device() {
    if let Some(world) = World::ordinary_user(false) {
        demo_shows_the_main_job(&world, "packet");
    }
}

#[test]
fn demo_runs_without_any_privilege() {
    if let Some(world) = World::confined_user() {
        demo_shows_the_main_job(&world, "inproc");
    }
}

/// A demo does not disturb a lab that runs with the same addresses.
#[test]
fn demo_leaves_a_running_lab_alone() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    let pid = lab.node_pid("minikube");
    world.podwire(&["demo"]).ok();
    assert_eq!(lab.node_pid("minikube"), pid);
}
