// libtorch_worker THREADS FOLDER: small ops from C++, as benchmarks/suite/opponents.py speaks. Built where it is first needed.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <sys/resource.h>

#include <chrono>
#include <iostream>
#include <string>

namespace {

constexpr int calls = 1000;
at::Tensor left, right, result;
bool recorded;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool prepare(const std::string &row) {
    if (row.rfind("small add", 0) != 0) return false;
    recorded = row.find("recorded") != std::string::npos;
    left = at::randn({8}).set_requires_grad(recorded);
    right = at::randn({8});
    return true;
}

void step() {
    const c10::InferenceMode plain(!recorded);
    for (int i = 0; i < calls; i++)
        result = at::add(left, right);
}

void run(double seconds) {
    const double begin = now();
    std::cout << "{\"seconds\": [";
    for (int count = 0; count < 3 || (now() - begin < seconds && count < 2000); count++) {
        const double start = now();
        step();
        std::cout << (count ? ", " : "") << (now() - start) / calls;
    }
    std::cout << "]}\n";
}

void obey(const std::string &line) {
    const auto space = line.find(' ');
    const std::string command = line.substr(0, space), rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (command == "prepare") {
        if (!prepare(rest)) {
            std::cout << "{\"error\": \"small ops only\", \"not_offered\": true}\n";
            return;
        }
        step();
        std::cout << "{\"ok\": true}\n";
    } else if (command == "run") {
        run(std::stod(rest));
    } else if (command == "memory") {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        std::cout << "{\"bytes\": " << usage.ru_maxrss * 1024LL << "}\n";
    } else {
        std::cout << "{\"error\": \"nothing to compare\"}\n";
    }
}

} // namespace

int main(int count, char **arguments) {
    at::set_num_threads(count > 1 ? std::stoi(arguments[1]) : 1);
    for (std::string line; std::getline(std::cin, line); std::cout.flush())
        obey(line);
    return 0;
}
