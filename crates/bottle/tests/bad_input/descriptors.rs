//! A gateway that has no descriptors left tells its clients so.

use std::{
    fs,
    io::{BufRead, BufReader, Read as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// Far more than the gateway may open.
const CLIENTS: usize = 200;

#[test]
fn clients_for_whom_there_is_no_descriptor_are_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("gateway.json");
    let receipts = folder.path().join("receipts.jsonl");
    fs::write(
        &config,
        serde_json::json!({"name": "alone", "listen": ["127.0.0.1:0"], "receipts": receipts, "policy": {"routes": []}})
            .to_string(),
    )?;
    let mut gateway = Command::new("sh")
        .args(["-c", "ulimit -n 60; exec \"$0\" gateway --config \"$1\"", env!("CARGO_BIN_EXE_bot-bottle")])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // Kept open: the gateway goes on writing to it.
    let mut output = BufReader::new(gateway.stderr.take().context("its output")?).lines();
    let address = output.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, address) = line.split_once(" listens on ")?;
        Some(address.trim().to_owned())
    });
    let address = address.context("it says where it listens")?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(TcpStream::connect(&address)?);
    }
    // The last of them comes when all descriptors are in use.
    let told: Result<String> = clients.pop().context("a client").and_then(|mut last| {
        last.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut answer = String::new();
        last.read_to_string(&mut answer)?;
        Ok(answer)
    });
    gateway.kill()?;
    gateway.wait()?;
    let told = told?;
    ensure!(told.starts_with("HTTP/1.1 429") && told.contains("limit_reached"), "{told}");
    Ok(())
}
