/* What the machine says of itself. See machine.h.
 *
 * One source per fact: /proc and /sys for the processor's name, memory, frequency and power; CPUID
 * for the hypervisor (also told where /sys/class/dmi is empty); hwloc, else /sys, for cores and
 * caches. In a virtual machine topology and caches are what the hypervisor shows. */
#include "harness/measure/machine.h"

#include "anemo_config.h"
#include "kernels/device.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#if ANEMO_HAVE_HWLOC
#include <hwloc.h>
#endif
#if ANEMO_X86
#include <cpuid.h>
#endif

#define CPU_FOLDER "/sys/devices/system/cpu"

/* First line of a file without its end; false and "" when it cannot be read. */
static bool read_line(const char *path, char *text, size_t text_bytes) {
    FILE *file = fopen(path, "r");
    text[0] = 0;
    if (!file)
        return false;
    bool read = fgets(text, (int)text_bytes, file) != NULL;
    fclose(file);
    text[strcspn(text, "\n")] = 0;
    return read;
}

static int64_t read_integer(const char *path, int64_t absent) {
    char text[64];
    return read_line(path, text, sizeof text) && text[0] ? strtoll(text, NULL, 10) : absent;
}

/* ---------------------------------------------------------------- cgroup limits */

/* This process's group of a controller ("" = version 2), "" for the root; false: no such line. */
static bool cgroup_folder(const char *controller, char *folder, size_t folder_bytes) {
    char line[512];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "r"); /* "4:cpu,cpuacct:/a/b", "0::/a/b" */
    while (file && !found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        names++;
        if (!*controller)
            found = !*names;
        for (char *save = NULL, *name = strtok_r(names, ",", &save); name && *controller;
             name = strtok_r(NULL, ",", &save))
            found = found || strcmp(name, controller) == 0;
        snprintf(folder, folder_bytes, "%s", strcmp(path, "/") ? path : "");
    }
    if (file)
        fclose(file);
    return found;
}

/* The least positive quotient of two files (denominator NULL: 1; equal names: "A B" in one file)
 * from this process's group up to the root; 0 = no limit. */
static double cgroup_tightest(const char *controller, const char *numerator,
                              const char *denominator) {
    char folder[512], path[640], text[64];
    double tightest = 0;
    bool more = cgroup_folder(controller, folder, sizeof folder);
    while (more) {
        const char *slash = *controller ? "/" : "";
        char *second = text;
        snprintf(path, sizeof path, "/sys/fs/cgroup%s%s%s/%s", slash, controller, folder,
                 numerator);
        bool limited = read_line(path, text, sizeof text) && isdigit((unsigned char)text[0]);
        double limit = limited ? strtod(text, &second) : 0;
        if (limited && denominator) {
            snprintf(path, sizeof path, "/sys/fs/cgroup%s%s%s/%s", slash, controller, folder,
                     denominator);
            double period = strcmp(numerator, denominator) == 0 ? strtod(second, NULL)
                                                                : (double)read_integer(path, 0);
            limit = period > 0 ? limit / period : 0;
        }
        if (limit > 0 && (tightest == 0 || limit < tightest))
            tightest = limit;
        char *last = strrchr(folder, '/');
        more = last != NULL;
        if (more)
            *last = 0;
    }
    return tightest;
}

double anemo_machine_cpu_quota(void) {
    double quota = cgroup_tightest("", "cpu.max", "cpu.max");
    return quota > 0 ? quota : cgroup_tightest("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us");
}

/* ---------------------------------------------------------------- processor */

/* "key   : value" of /proc/cpuinfo; false when the line is another one. */
static bool cpuinfo_value(const char *line, const char *key, char *value, size_t value_bytes) {
    size_t n = strlen(key);
    const char *colon = strchr(line, ':');
    if (strncmp(line, key, n) != 0 || !colon ||
        strspn(line + n, " \t") != (size_t)(colon - line) - n)
        return false;
    colon += 1 + strspn(colon + 1, " \t");
    snprintf(value, value_bytes, "%.*s", (int)strcspn(colon, "\n"), colon);
    return true;
}

static void read_cpu(anemo_machine *m) {
    char line[4096], value[128], implementer[32] = "", part[32] = "";
    FILE *file = fopen("/proc/cpuinfo", "r");
    m->family = m->model = m->stepping = -1;
    while (file && fgets(line, sizeof line, file) && line[0] != '\n') {
        if (cpuinfo_value(line, "model name", value, sizeof value))
            snprintf(m->cpu, sizeof m->cpu, "%s", value);
        else if (cpuinfo_value(line, "cpu family", value, sizeof value))
            m->family = atoi(value);
        else if (cpuinfo_value(line, "model", value, sizeof value))
            m->model = atoi(value);
        else if (cpuinfo_value(line, "stepping", value, sizeof value))
            m->stepping = atoi(value);
        else if (cpuinfo_value(line, "microcode", value, sizeof value))
            snprintf(m->microcode, sizeof m->microcode, "%.31s", value);
        else if (cpuinfo_value(line, "CPU implementer", value, sizeof value))
            snprintf(implementer, sizeof implementer, "%.31s", value);
        else if (cpuinfo_value(line, "CPU part", value, sizeof value))
            snprintf(part, sizeof part, "%.31s", value);
    }
    if (file)
        fclose(file);
    if (!m->cpu[0] && part[0]) /* Arm: numbers instead of a name */
        snprintf(m->cpu, sizeof m->cpu, "Arm implementer %s part %s", implementer, part);
    m->cpu_features = anemo_cpu_features_hardware();
}

static void read_frequency(anemo_machine *m) {
    char text[64];
    read_line(CPU_FOLDER "/cpu0/cpufreq/scaling_governor", m->governor, sizeof m->governor);
    m->frequency_max_khz = read_integer(CPU_FOLDER "/cpu0/cpufreq/cpuinfo_max_freq", 0);
    if (read_line(CPU_FOLDER "/intel_pstate/no_turbo", text, sizeof text))
        snprintf(m->boost, sizeof m->boost, "%s", text[0] == '0' ? "on" : "off");
    else if (read_line(CPU_FOLDER "/cpufreq/boost", text, sizeof text))
        snprintf(m->boost, sizeof m->boost, "%s", text[0] == '1' ? "on" : "off");
}

/* ---------------------------------------------------------------- cores and caches */

static void count_allowed(anemo_machine *m) {
    cpu_set_t allowed;
    m->threads_allowed =
        sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 0;
    m->cpu_quota = anemo_machine_cpu_quota();
}

#if ANEMO_HAVE_HWLOC

static void read_topology(anemo_machine *m) {
    static const hwloc_obj_type_t levels[ANEMO_CACHES] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE,
                                                          HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE};
    hwloc_topology_t topology;
    unsigned version = hwloc_get_api_version();
    snprintf(m->topology, sizeof m->topology, "hwloc API %u.%u.%u", version >> 16,
             version >> 8 & 255, version & 255);
    if (hwloc_topology_init(&topology))
        return;
    if (hwloc_topology_load(topology) == 0) {
        m->sockets = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PACKAGE);
        m->cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
        m->threads = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
        m->numa_nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
        for (int i = 0; i < ANEMO_CACHES; i++) {
            hwloc_obj_t first = hwloc_get_obj_by_type(topology, levels[i], 0);
            if (!first)
                continue;
            m->cache[m->caches++] =
                (anemo_cache){.level = i + 1,
                              .bytes = (int64_t)first->attr->cache.size,
                              .count = hwloc_get_nbobjs_by_type(topology, levels[i]),
                              .threads = hwloc_bitmap_weight(first->cpuset)};
        }
    }
    hwloc_topology_destroy(topology);
}

#else

/* How many CPUs a list such as "0-3,8" names. */
static int32_t list_count(const char *list) {
    int32_t n = 0;
    while (*list >= '0' && *list <= '9') {
        char *end;
        long low = strtol(list, &end, 10), high = low;
        if (*end == '-')
            high = strtol(end + 1, &end, 10);
        n += (int32_t)(high - low + 1);
        list = end + (*end == ',');
    }
    return n;
}

static void read_caches(anemo_machine *m) {
    for (int i = 0; i < 8 && m->caches < ANEMO_CACHES; i++) {
        char path[128], text[256];
        snprintf(path, sizeof path, CPU_FOLDER "/cpu0/cache/index%d/type", i);
        if (!read_line(path, text, sizeof text) || strcmp(text, "Instruction") == 0)
            continue;
        anemo_cache *cache = &m->cache[m->caches++];
        snprintf(path, sizeof path, CPU_FOLDER "/cpu0/cache/index%d/level", i);
        cache->level = (int32_t)read_integer(path, 0);
        snprintf(path, sizeof path, CPU_FOLDER "/cpu0/cache/index%d/size", i);
        if (read_line(path, text, sizeof text))
            cache->bytes = strtoll(text, NULL, 10) * (strchr(text, 'M') ? 1 << 20 : 1 << 10);
        snprintf(path, sizeof path, CPU_FOLDER "/cpu0/cache/index%d/shared_cpu_list", i);
        if (read_line(path, text, sizeof text))
            cache->threads = list_count(text);
        if (cache->threads > 0) /* as if all were alike */
            cache->count = (m->threads + cache->threads - 1) / cache->threads;
    }
}

/* Counts what is first in its list of siblings. */
static int32_t count_groups(const char *list_name) {
    int32_t groups = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[128], text[256];
        snprintf(path, sizeof path, CPU_FOLDER "/cpu%d/topology/%s", cpu, list_name);
        if (read_line(path, text, sizeof text))
            groups += strtol(text, NULL, 10) == cpu;
    }
    return groups;
}

static void read_topology(anemo_machine *m) {
    snprintf(m->topology, sizeof m->topology, "sysfs");
    m->threads = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    m->cores = count_groups("thread_siblings_list");
    m->sockets = count_groups("core_siblings_list");
    char text[256];
    if (read_line("/sys/devices/system/node/online", text, sizeof text))
        m->numa_nodes = list_count(text);
    read_caches(m);
}

#endif

/* ---------------------------------------------------------------- memory */

/* The value of a line "KEY:  NUMBER" times unit; `absent` when there is no such line. */
static int64_t proc_number(const char *path, const char *key, int64_t unit, int64_t absent) {
    char line[256];
    int64_t value = absent;
    size_t n = strlen(key);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, n) == 0 && line[n] == ':')
            value = strtoll(line + n + 1, NULL, 10) * unit;
    if (file)
        fclose(file);
    return value;
}

static int64_t meminfo_bytes(const char *key, int64_t unit) {
    return proc_number("/proc/meminfo", key, unit, 0);
}

int64_t anemo_machine_huge_bytes(void) {
    return proc_number("/proc/self/smaps_rollup", "AnonHugePages", 1024, -1);
}

static int64_t memory_limit(void) {
    double limit = cgroup_tightest("", "memory.max", NULL);
    if (limit == 0) /* version 1 writes "no limit" as a huge number */
        limit = cgroup_tightest("memory", "memory.limit_in_bytes", NULL);
    return limit > 0 && limit < 1e18 ? (int64_t)limit : 0;
}

static void read_memory(anemo_machine *m) {
    char text[128];
    m->memory_bytes = meminfo_bytes("MemTotal", 1024);
    m->memory_limit_bytes = memory_limit();
    m->huge_pages_reserved = meminfo_bytes("HugePages_Total", 1);
    /* "always [madvise] never" */
    if (read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text)) {
        char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;
        if (close)
            snprintf(m->huge_pages, sizeof m->huge_pages, "%.*s", (int)(close - open - 1),
                     open + 1);
    }
}

/* ---------------------------------------------------------------- virtualisation, power, system */

#if ANEMO_X86
/* The hypervisor's signature, if the processor says there is one. */
static bool hypervisor(char *name, size_t name_bytes) {
    static const char *const known[][2] = {
        {"KVMKVMKVM", "KVM"},          {"VMwareVMware", "VMware"}, {"Microsoft Hv", "Hyper-V"},
        {"XenVMMXenVMM", "Xen"},       {"TCGTCGTCGTCG", "QEMU"},   {"bhyve bhyve ", "bhyve"},
        {"VBoxVBoxVBox", "VirtualBox"}};
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 31))
        return false;
    unsigned signature[4] = {0};
    __cpuid(0x40000000, a, signature[0], signature[1], signature[2]);
    const char *text = (const char *)signature;
    snprintf(name, name_bytes, "unknown hypervisor");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(text, known[i][0], strlen(known[i][0])) == 0)
            snprintf(name, name_bytes, "%s", known[i][1]);
    return true;
}
#endif

static void read_virtualisation(anemo_machine *m) {
    static const char *const vendors[] = {"QEMU",       "KVM",    "VMware",    "Xen",
                                          "Amazon EC2", "Google", "OpenStack", "Bochs"};
    char text[128];
#if ANEMO_X86
    if (hypervisor(m->virtualisation, sizeof m->virtualisation))
        return;
    snprintf(m->virtualisation, sizeof m->virtualisation, "none");
#endif
    if (read_line("/sys/class/dmi/id/sys_vendor", text, sizeof text))
        for (size_t i = 0; i < sizeof vendors / sizeof *vendors; i++)
            if (strstr(text, vendors[i]))
                snprintf(m->virtualisation, sizeof m->virtualisation, "%s", vendors[i]);
}

static void read_container(anemo_machine *m) {
    const char *name = getenv("container"); /* set by podman, systemd-nspawn, lxc */
    if (name && *name)
        snprintf(m->container, sizeof m->container, "%.31s", name);
    else if (access("/.dockerenv", F_OK) == 0)
        snprintf(m->container, sizeof m->container, "docker");
    else if (getenv("KUBERNETES_SERVICE_HOST"))
        snprintf(m->container, sizeof m->container, "kubernetes");
}

/* On battery: a mains supply exists and none is online. */
static void read_power(anemo_machine *m) {
    DIR *folder = opendir("/sys/class/power_supply");
    int mains = 0, online = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[384], text[32];
        snprintf(path, sizeof path, "/sys/class/power_supply/%s/type", entry->d_name);
        if (!read_line(path, text, sizeof text) || strcmp(text, "Mains") != 0)
            continue;
        mains++;
        snprintf(path, sizeof path, "/sys/class/power_supply/%s/online", entry->d_name);
        online += read_integer(path, 0) == 1;
    }
    if (folder)
        closedir(folder);
    m->on_battery = mains > 0 && online == 0;
}

static void read_system(anemo_machine *m) {
    struct utsname name;
    char line[256];
    if (uname(&name) == 0) {
        snprintf(m->kernel, sizeof m->kernel, "%.16s %.62s", name.sysname, name.release);
        snprintf(m->arch, sizeof m->arch, "%.15s", name.machine);
    }
    FILE *file = fopen("/etc/os-release", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "PRETTY_NAME=\"%79[^\"\n]", m->os) == 1)
            break;
    if (file)
        fclose(file);
}

/* ---------------------------------------------------------------- identity */

static uint64_t fnv1a(uint64_t hash, const char *text) {
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

/* Words of the name that say nothing: "(R)", "CPU", "Processor", and what follows '@'. */
static void make_id(anemo_machine *m) {
    char name[128], slug[48] = "", facts[512];
    size_t used = 0;
    snprintf(name, sizeof name, "%s", m->cpu[0] ? m->cpu : m->arch);
    name[strcspn(name, "@")] = 0;
    for (char *save = NULL, *word = strtok_r(name, " /,", &save); word;
         word = strtok_r(NULL, " /,", &save)) {
        if (strcasecmp(word, "CPU") == 0 || strcasecmp(word, "Processor") == 0)
            continue;
        if (used && used + 1 < sizeof slug)
            slug[used++] = '-';
        for (char *at = word; *at && *at != '(' && used + 1 < sizeof slug; at++)
            if (isalnum((unsigned char)*at))
                slug[used++] = (char)tolower((unsigned char)*at);
    }
    slug[used] = 0;
    int64_t memory_gib = (m->memory_bytes + (1LL << 30) - 1) >> 30;
    int at = snprintf(facts, sizeof facts, "%s|%s|%d.%d.%d|%x|%d.%d.%d.%d|%s|%" PRId64, m->cpu,
                      m->arch, m->family, m->model, m->stepping, m->cpu_features, m->sockets,
                      m->cores, m->threads, m->numa_nodes, m->virtualisation, memory_gib);
    for (int32_t i = 0; i < m->caches && at > 0 && (size_t)at < sizeof facts; i++)
        at += snprintf(facts + at, sizeof facts - (size_t)at, "|%d:%" PRId64, m->cache[i].level,
                       m->cache[i].bytes);
    uint64_t hash = fnv1a(14695981039346656037u, facts);
    snprintf(m->id, sizeof m->id, "%s-%dc-%06" PRIx64, slug, m->cores, hash >> 40);
}

const anemo_machine *anemo_machine_get(void) {
    static anemo_machine machine;
    if (!machine.id[0]) {
        read_cpu(&machine);
        read_frequency(&machine);
        read_topology(&machine);
        count_allowed(&machine);
        read_memory(&machine);
        read_virtualisation(&machine);
        read_container(&machine);
        read_power(&machine);
        read_system(&machine);
        make_id(&machine);
    }
    machine.memory_available_bytes = meminfo_bytes("MemAvailable", 1024);
    return &machine;
}

void anemo_machine_feature_names(uint32_t features, char *text, size_t text_bytes) {
    size_t used = 0;
    text[0] = 0;
    for (int bit = 0; bit < 32; bit++) {
        if (!(features & 1u << bit) || used >= text_bytes)
            continue;
        int n = snprintf(text + used, text_bytes - used, "%s%s", used ? " " : "",
                         anemo_cpu_feature_name(1u << bit));
        used += n > 0 ? (size_t)n : 0;
    }
}

/* ---------------------------------------------------------------- a lesser processor */

#define AVX2   ANEMO_CPU_AVX2
#define AVX512 (ANEMO_CPU_AVX2 | ANEMO_CPU_AVX512)
static const struct {
    const char *name, *option;
    uint32_t features;
} isa_levels[] = {{"native", "", UINT32_MAX},
                  {"baseline", " --isa baseline", 0},
                  {"avx2", " --isa avx2", AVX2},
                  {"avx512", " --isa avx512", AVX512}};
enum { ISA_LEVELS = sizeof isa_levels / sizeof *isa_levels };
static int isa_level; /* index in force */

anemo_status anemo_isa_limit(const char *level, anemo_error *err) {
    int wanted = 0;
    while (wanted < ISA_LEVELS && strcmp(isa_levels[wanted].name, level) != 0) {
        wanted++;
    }
    if (wanted == ISA_LEVELS) {
        return anemo_fail(err, ANEMO_E_INPUT, "ISA '%s': expected baseline, avx2, avx512 or native",
                          level);
    }
    const uint32_t missing = isa_levels[wanted].features & ~anemo_cpu_features_hardware();
    if (wanted > 0 && missing) {
        return anemo_fail(err, ANEMO_E_INPUT, "ISA %s: this processor has no %s", level,
                          anemo_cpu_feature_name(missing & -missing));
    }
    anemo_cpu_features_limit(isa_levels[wanted].features);
    isa_level = wanted;
    return ANEMO_OK;
}

const char *anemo_isa_level(void) {
    return isa_levels[isa_level].name;
}

const char *anemo_isa_option(void) {
    return isa_levels[isa_level].option;
}
